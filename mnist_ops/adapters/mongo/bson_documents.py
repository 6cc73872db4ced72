"""BSON documents and the fields that the pipeline reads of them, for the stores in MongoDB and in memory."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime

import bson
from bson import ObjectId, json_util
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError

from mnist_ops.domain.errors import Damaged, UsageError
from mnist_ops.domain.records import NO_FAILURE, FailureStamp, FieldNames, RecordHead
from mnist_ops.domain.retry_policy import MAX_ATTEMPTS

Document = dict[str, object]

_OBJECT_ID = '{"$oid": "'
_OBJECT_ID_LENGTH = len(_OBJECT_ID) + 24 + len('"}')

# MongoDB's limit.
_MOST_LEVELS = 100

# Bytes. URLs that are fetched are shorter; a longer value would be copied into filters and failures.
LONGEST_URL = 8_192

# Real collections hold dates beyond Python's years and broken UTF-8; neither may fail a whole part.
CODEC: CodecOptions[Document] = CodecOptions(
    tz_aware=True,
    tzinfo=UTC,
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
    unicode_decode_error_handler="replace",
)

_CANONICAL = json_util.JSONOptions(
    json_mode=json_util.JSONMode.CANONICAL,
    tz_aware=True,
    tzinfo=UTC,
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
)

_RELAXED = json_util.JSONOptions(
    json_mode=json_util.JSONMode.RELAXED,
    tz_aware=True,
    tzinfo=UTC,
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
)


def decode(document: bytes) -> Document:
    """Decode one BSON document.

    Raises:
        Damaged: it cannot be decoded.
    """
    try:
        return bson.decode(document, codec_options=CODEC)
    except BSONError as error:
        raise Damaged(f"not a BSON document: {error}") from error


def id_json(record_id: object) -> str:
    """A record's `_id` as canonical Extended JSON."""
    kind = type(record_id)
    # Nearly all ids are of these two types; the result is the same, ten times as fast.
    if kind is ObjectId:
        return f'{{"$oid": "{record_id}"}}'
    if kind is str:
        return json.dumps(record_id)
    return json_util.dumps(record_id, json_options=_CANONICAL)


def id_of(text: str) -> object:
    """The `_id` that `id_json` wrote, of the same BSON type."""
    if len(text) == _OBJECT_ID_LENGTH and text.startswith(_OBJECT_ID):
        return ObjectId(text[len(_OBJECT_ID) : -2])
    if text.startswith('"'):
        return json.loads(text)
    return json_util.loads(text, json_options=_CANONICAL)


def given_id(text: str) -> object:
    """The `_id` that somebody gave as canonical Extended JSON.

    Raises:
        UsageError: it is none.
    """
    try:
        given = id_of(text)
        _require_sendable(given)
    except (BSONError, ValueError, TypeError, ArithmeticError, RecursionError) as error:
        raise UsageError(f"{text[:200]}: not an id in canonical Extended JSON ({error})") from error
    # No record has such an id; in a query they would match others.
    if isinstance(given, bson.Regex | re.Pattern) or (
        isinstance(given, Mapping) and any(name.startswith("$") for name in given)
    ):
        raise UsageError(f"{text[:200]}: not an id, but a condition")
    return given


def _require_sendable(given: object) -> None:
    """Some of what can be read cannot be sent: a date or a number out of range, half of a character."""
    if _levels(given) > _MOST_LEVELS:
        raise ValueError(f"it has more than {_MOST_LEVELS} levels")
    bson.encode({"_id": given}, codec_options=CODEC)


def _levels(value: object) -> int:
    """How deep a value is nested."""
    inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return 1 + max(map(_levels, inside), default=0)


def json_values(document: Document) -> dict[str, object]:
    """A document as JSON-able values, in relaxed Extended JSON."""
    values: dict[str, object] = json.loads(json_util.dumps(document, json_options=_RELAXED))
    return values


def value_at(document: Mapping[str, object], path: str) -> object:
    """The value at a dotted path; None where there is none."""
    if "." not in path:
        return document.get(path)
    value: object = document
    for name in path.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def head_of(document: Mapping[str, object], fields: FieldNames) -> RecordHead:
    """Read the fields of a record that the pipeline uses; values of wrong types count as absent."""
    prediction = value_at(document, fields.prediction)
    review = document.get(fields.label_review)
    record_id = document.get("_id")
    return RecordHead(
        id=record_id,
        id_json=id_json(record_id),
        image_url=_url(value_at(document, fields.image_url)),
        created_at=_date(value_at(document, fields.created_at)),
        label=value_at(document, fields.label),
        prediction=prediction if isinstance(prediction, Mapping) else None,
        failure=_failure(value_at(document, fields.prediction_failure)),
        label_review=review if isinstance(review, Mapping) else None,
    )


def _url(value: object) -> str | None:
    """The value if it is a string of at most `LONGEST_URL` bytes, else None."""
    if isinstance(value, str) and len(value.encode(errors="surrogatepass")) <= LONGEST_URL:
        return value
    return None


def _date(value: object) -> datetime | None:
    if isinstance(value, datetime):
        return value
    if isinstance(value, bson.DatetimeMS):
        # A date beyond Python's years: the earliest or latest that it can hold.
        return datetime.min.replace(tzinfo=UTC) if int(value) < 0 else datetime.max.replace(tzinfo=UTC)
    return None


def _failure(value: object) -> FailureStamp:
    if not isinstance(value, Mapping):
        return NO_FAILURE
    attempts = value.get("attempts")
    return FailureStamp(
        run=value.get("run"),
        last_at=value.get("last_at"),
        image_url=value.get("image_url"),
        reason=value.get("reason"),
        # Clamped, since any client may have written it.
        attempts=min(max(0, attempts), MAX_ATTEMPTS)
        if isinstance(attempts, int) and not isinstance(attempts, bool)
        else 0,
        first_at=value.get("first_at"),
        next_attempt_at=_date(value.get("next_attempt_at")),
    )
