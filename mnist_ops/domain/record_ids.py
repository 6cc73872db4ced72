"""Ids of records as people type and read them; shards and ledgers hold canonical Extended JSON."""

import json
import re

_OBJECT_ID = re.compile(r"[0-9a-fA-F]{24}")
_INTEGER = re.compile(r"-?(0|[1-9]\d{0,18})")
_INT32 = range(-(2**31), 2**31)
_INT64 = range(-(2**63), 2**63)


def readable_id(id_json: str) -> str:
    """An id without quotation marks and types, where it is a text, an ObjectId or an integer."""
    try:
        value = json.loads(id_json)
    except ValueError:  # of an example, which is cut after 200 characters
        return id_json
    if isinstance(value, str):
        return value
    ((kind, content),) = value.items() if isinstance(value, dict) and len(value) == 1 else [("", "")]
    return str(content) if kind in ("$oid", "$numberInt", "$numberLong") else id_json


def possible_ids(text: str) -> list[str]:
    """The ids that somebody may mean, as canonical Extended JSON.

    Args:
        text: the hexadecimal digits of an ObjectId, an integer, any text, or canonical Extended JSON.
    """
    if text.startswith(("{", '"')):
        try:
            return [json.dumps(json.loads(text))]
        except (ValueError, RecursionError):
            pass  # an id that begins so, and is a text
    ids = [json.dumps(text)]
    if _OBJECT_ID.fullmatch(text):
        ids.insert(0, json.dumps({"$oid": text.lower()}))
    if _INTEGER.fullmatch(text):
        ids += [json.dumps({"$numberInt": text})] if int(text) in _INT32 else []
        ids += [json.dumps({"$numberLong": text})] if int(text) in _INT64 else []
    return ids
