"""Connections as Airflow writes them: from `AIRFLOW_CONN_<NAME>`, or from the embedded stack's `stack.json`.

No error quotes a connection, because it holds secrets.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from mnist_ops.domain.connections import Connection
from mnist_ops.domain.errors import Permanent, UsageError

# The type that Airflow's hook of a connection requires, and how such a connection is written.
_TYPES = {"mongo_default": "mongo", "aws_default": "aws"}
_EXAMPLES = {
    "mongo_default": "mongo://user:password@host:27017/admin",
    "aws_default": "aws://key:secret@/?region_name=eu-central-1",
}
_ENCODING = "write / : @ # ? [ in a user or password as %2F %3A %40 %23 %3F %5B"
_PORT = "port: expected a number from 1 to 65535"
_SEVERAL_HOSTS = '{"conn_type": "mongo", "host": "a:27017,b:27017", "extra": {"replicaSet": "rs0"}}'


def read_connection(name: str, environment: Mapping[str, str], local_dir: Path) -> Connection:
    """Read a connection, such as `mongo_default`, from its variable, else from the running embedded stack.

    Raises:
        UsageError: there is neither, or the variable is wrong; the message names it.
        Permanent: the file of the embedded stack cannot be read.
    """
    variable = f"AIRFLOW_CONN_{name.upper()}"
    text = environment.get(variable)
    if text is not None:
        return _checked(replace(_parse(text, name, variable), name=name), variable)
    stack = stack_file(local_dir)
    if not stack.exists():
        raise UsageError(
            f"no connection {name}: set {variable}, or start the embedded stack (`mnist-ops stack up`)"
        )
    values = read_stack(stack, "connections").get(name)
    if not isinstance(values, Mapping):
        raise Permanent(f"{stack}: has no connection {name}; set {variable}, or start the stack again")
    return _checked(replace(_from_mapping(values, name, str(stack)), name=name), str(stack))


def stack_file(local_dir: Path) -> Path:
    """The file that the embedded stack writes while it runs, with its connections and settings."""
    return local_dir / "stack.json"


def read_stack(stack: Path, section: str) -> dict[str, Any]:
    """Read `connections`, `settings` or `ports` from the file of the embedded stack.

    Raises:
        Permanent: the file cannot be read, is damaged, or has no such section.
    """
    try:
        values = json.loads(stack.read_text())[section]
    except OSError as error:
        raise Permanent(f"{stack}: {error.strerror}; start the embedded stack again") from error
    except (ValueError, KeyError, TypeError):
        values = None
    if not isinstance(values, dict):
        raise Permanent(f"{stack}: damaged, it has no {section}; start the embedded stack again")
    return values


def _parse(text: str, name: str, variable: str) -> Connection:
    if not text.strip():
        raise UsageError(f"{variable}: empty; write it like {_example(name)}, or unset it")
    if not text.lstrip().startswith("{"):
        return _from_uri(text.strip(), name, variable)
    try:
        return _from_mapping(json.loads(text), name, variable)
    except json.JSONDecodeError as error:
        # Not chained: the text in the error is the secret itself.
        raise UsageError(f"{variable}: not valid JSON at column {error.colno}") from None


def _from_mapping(values: Mapping[str, object], name: str, source: str) -> Connection:
    _require_type(values.get("conn_type"), name, source)
    texts = {field: values.get(field) for field in ("host", "schema", "login", "password")}
    return Connection(
        port=_port(values.get("port"), source),
        extra=_extra(values.get("extra") or {}, "extra", source),
        **{field: str(value) for field, value in texts.items() if value is not None},
    )


def _from_uri(text: str, name: str, variable: str) -> Connection:
    if "://" not in text:
        raise UsageError(f"{variable}: neither a JSON object nor a URI such as {_example(name)}")
    try:
        uri = urlsplit(text)
    except ValueError:
        uri = None
    # A password that is not encoded ends at its first / ? or #, and what is before it looks like a port.
    if uri is None or "#" in text or "@" in uri.path + uri.query:
        raise UsageError(f"{variable}: not a URI such as {_example(name)}; {_ENCODING}")
    _require_type(uri.scheme, name, variable)
    query = dict(parse_qsl(uri.query, keep_blank_values=True))
    # Airflow writes nested extras as one JSON text.
    nested = query.get("__extra__")
    return Connection(
        host=unquote(uri.hostname) if uri.hostname else None,
        port=_port_of_uri(uri, variable),
        schema=unquote(uri.path.strip("/")) or None,
        login=unquote(uri.username) if uri.username else None,
        password=unquote(uri.password) if uri.password else None,
        extra=query if nested is None else _extra(nested, "__extra__", variable),
    )


def _port_of_uri(uri: SplitResult, variable: str) -> int | None:
    try:
        return _port(uri.port, variable)
    except ValueError:
        several = "," in uri.netloc.rpartition("@")[2]
        advice = f"several hosts with ports are written in JSON: {_SEVERAL_HOSTS}" if several else _PORT
        raise UsageError(f"{variable}: {advice}") from None


def _require_type(conn_type: object, name: str, source: str) -> None:
    expected = _TYPES.get(name)
    if expected is not None and conn_type not in (None, expected):
        srv = "; a mongodb+srv address is written with ?srv=true" if expected == "mongo" else ""
        raise UsageError(
            f"{source}: {name} must be of the type {expected}; write it like {_example(name)}{srv}"
        )


def _port(value: object, source: str) -> int | None:
    if value is None:
        return None
    if not str(value).isdecimal() or not 1 <= int(str(value)) <= 65_535:
        raise UsageError(f"{source}: {_PORT}")
    return int(str(value))


def _extra(value: object, field: str, source: str) -> Mapping[str, object]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = None
    if not isinstance(value, Mapping):
        raise UsageError(f"{source}: its {field} is not a JSON object")
    return value


def _checked(connection: Connection, source: str) -> Connection:
    """The connection, unless its client would take another server, or connect without its user."""
    if _TYPES.get(connection.name) != "mongo":
        return connection
    if not connection.host:
        raise UsageError(f"{source}: names no host; write it like {_example(connection.name)}")
    if connection.login and not connection.password and "authMechanism" not in connection.extra:
        raise UsageError(f"{source}: has a login but no password; write it like {_example(connection.name)}")
    return connection


def _example(name: str) -> str:
    return _EXAMPLES.get(name, "type://login:password@host:port")
