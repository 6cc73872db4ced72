"""Connections as Airflow writes them: from `AIRFLOW_CONN_<NAME>`, or from the embedded stack's `stack.json`.

No error quotes a connection, because it holds secrets.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from mnist_ops.domain.connections import Connection
from mnist_ops.domain.errors import Permanent


def read_connection(name: str, environment: Mapping[str, str], local_dir: Path) -> Connection:
    """Read a connection, such as `mongo_default`, from its variable, else from the running embedded stack.

    Raises:
        Permanent: there is neither, or it cannot be read.
    """
    variable = f"AIRFLOW_CONN_{name.upper()}"
    text = environment.get(variable)
    if text:
        return _parse(text, variable)
    stack = stack_file(local_dir)
    if not stack.exists():
        raise Permanent(
            f"no connection {name}: set {variable}, or start the embedded stack (`mnist-ops stack up`)"
        )
    values = read_stack(stack, "connections").get(name)
    if not isinstance(values, Mapping):
        raise Permanent(f"{stack}: has no connection {name}; set {variable}, or start the stack again")
    return _from_mapping(values, str(stack))


def stack_file(local_dir: Path) -> Path:
    """The file that the embedded stack writes while it runs, with its connections and settings."""
    return local_dir / "stack.json"


def read_stack(stack: Path, section: str) -> dict[str, Any]:
    """Read `connections`, `settings` or `ports` from the file of the embedded stack.

    Raises:
        Permanent: the file is damaged, or has no such section.
    """
    try:
        values = json.loads(stack.read_text())[section]
    except (ValueError, KeyError, TypeError):
        values = None
    if not isinstance(values, dict):
        raise Permanent(f"{stack}: damaged, it has no {section}; start the embedded stack again")
    return values


def _parse(text: str, variable: str) -> Connection:
    if not text.lstrip().startswith("{"):
        return _from_uri(text, variable)
    try:
        return _from_mapping(json.loads(text), variable)
    except json.JSONDecodeError as error:
        # Not chained: the text in the error is the secret itself.
        raise Permanent(f"{variable}: not valid JSON at column {error.colno}") from None


def _from_mapping(values: Mapping[str, object], source: str) -> Connection:
    extra = values.get("extra") or {}
    if isinstance(extra, str):
        extra = json.loads(extra)
    port = values.get("port")
    if not isinstance(extra, Mapping) or not (port is None or str(port).isdecimal()):
        raise Permanent(f"{source}: expected a number as port and an object as extra")
    texts = {name: values.get(name) for name in ("host", "schema", "login", "password")}
    return Connection(
        port=int(str(port)) if port is not None else None,
        extra=extra,
        **{name: str(value) for name, value in texts.items() if value is not None},
    )


def _from_uri(text: str, variable: str) -> Connection:
    try:
        uri = urlsplit(text)
        port = uri.port
    except ValueError:
        raise Permanent(f"{variable}: neither a JSON object nor a URI") from None
    return Connection(
        host=unquote(uri.hostname) if uri.hostname else None,
        port=port,
        schema=unquote(uri.path.strip("/")) or None,
        login=unquote(uri.username) if uri.username else None,
        password=unquote(uri.password) if uri.password else None,
        extra=_extra_from_query(uri.query, variable),
    )


def _extra_from_query(query: str, variable: str) -> Mapping[str, object]:
    """Read a URI's query; Airflow writes nested extras as one JSON text, `__extra__`."""
    extra = dict(parse_qsl(query, keep_blank_values=True))
    text = extra.get("__extra__")
    if text is None:
        return extra
    try:
        nested = json.loads(text)
    except ValueError:
        nested = None
    if not isinstance(nested, dict):
        raise Permanent(f"{variable}: its __extra__ is not a JSON object")
    return nested
