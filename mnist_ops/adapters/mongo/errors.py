"""PyMongo's errors as the project's own: one line with the server's address, the cause, and what to do."""

import re
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from bson.errors import BSONError
from pymongo.errors import (
    ConfigurationError,
    ConnectionFailure,
    CursorNotFound,
    DuplicateKeyError,
    ExecutionTimeout,
    InvalidName,
    OperationFailure,
    ProtocolError,
    PyMongoError,
    WTimeoutError,
)

from mnist_ops.domain.connections import connection_error
from mnist_ops.domain.errors import Permanent, Transient, UsageError

P = ParamSpec("P")
T = TypeVar("T")

# WriteConflict, ReadConcernMajorityNotAvailableYet.
_RETRYABLE_CODES = frozenset({112, 134})
_RETRYABLE_LABELS = ("RetryableWriteError", "TransientTransactionError")
# AuthenticationFailed, and the same from MongoDB Atlas; Unauthorized.
_WRONG_LOGIN_CODES = frozenset({18, 8000})
_NOT_ALLOWED_CODE = 13

# What PyMongo's message of a failed connection has, and what it means.
_NO_SERVER_YET = "No servers found yet"
_WRONG_PROTOCOL = "Got response id"

_SERVER = re.compile(r"ServerDescription \('([^']*)', (\d+)\)")
_ADDRESS = re.compile(r"(?:SSL handshake failed: )?(\S+:\d+): ")
_NEXT_SERVER = re.compile(r",(?=\S+:\d+: )")
_NOISE = re.compile(r" \(configured timeouts: [^)]*\)|, Timeout: [\d.]+s$|\[Errno -?\d+\] ")


def translate(error: PyMongoError | BSONError, name: str = "MongoDB") -> Transient | Permanent:
    """Return PyMongo's error as one of ours: `Transient` where the same call may succeed later.

    Args:
        error: what PyMongo raised.
        name: the connection, as the message names it.
    """
    if isinstance(error, ConnectionFailure | ProtocolError):
        return _connection_error(_without_answer(error), name)
    if isinstance(error, ConfigurationError | InvalidName):
        if is_dns_outage(error):
            return dns_outage(error, name)
        return UsageError(f"{name}: {_one_line(error)}; correct the connection, or the names in the settings")
    if isinstance(error, ExecutionTimeout | WTimeoutError | CursorNotFound):
        return Transient(f"{name} did not answer: {_one_line(error)}")
    if isinstance(error, OperationFailure):
        return _operation_error(error, name)
    return Permanent(f"{name} refused: {_one_line(error)}")


def is_dns_outage(error: Exception) -> bool:
    """Whether PyMongo failed because DNS did not answer for a `mongodb+srv` address.

    PyMongo makes each failed lookup a ConfigurationError, whose cause is the resolver's error. A name or a
    record that does not exist is wrong usage; a time-out, or servers that all fail, may pass.
    """
    from dns.exception import Timeout  # noqa: PLC0415 - a quarter of a second that few connections need
    from dns.resolver import NoNameservers  # noqa: PLC0415 - as above

    return isinstance(error.__cause__, Timeout | NoNameservers)


def dns_outage(error: Exception, name: str) -> Transient:
    """The error of a `mongodb+srv` address for which DNS did not answer."""
    return Transient(f"{name}: DNS did not answer for its address: {_one_line(error)}")


def translated(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call PyMongo and translate its errors, except a duplicate key, which the caller handles."""
    try:
        return call(*args, **kwargs)
    except DuplicateKeyError:
        raise
    except (PyMongoError, BSONError) as error:
        raise translate(error) from error


def _connection_error(text: str, name: str) -> Transient | Permanent:
    """What the message of a failed connection says, without PyMongo's description of all servers."""
    message, _, topology = text.partition(", Topology Description: ")
    # If there are more servers, the first one's cause is enough.
    message = _NEXT_SERVER.split(_NOISE.sub("", message))[0]
    servers = [f"{host}:{port}" for host, port in _SERVER.findall(topology)] or _ADDRESS.findall(message)
    if _WRONG_PROTOCOL in message:
        where = f"{name} ({', '.join(servers)})"
        return Permanent(f"{where}: not a MongoDB server; correct the port in the connection")
    cause = "timed out" if _NO_SERVER_YET in message else _ADDRESS.sub("", message)
    return connection_error(name, servers, cause)


def _operation_error(error: OperationFailure, name: str) -> Transient | Permanent:
    if error.code in _WRONG_LOGIN_CODES:
        # The schema is the database that authenticates.
        return Permanent(
            f"{name}: wrong user or password; correct login and password of the connection, or its schema"
        )
    if error.code == _NOT_ALLOWED_CODE:
        return Permanent(f"{name}: {_one_line(error)}; give its user the role readWrite on the database")
    if error.code in _RETRYABLE_CODES or any(map(error.has_error_label, _RETRYABLE_LABELS)):
        return Transient(f"{name} asks to retry: {_one_line(error)}")
    return Permanent(f"{name} refused: {_one_line(error)}")


def _one_line(error: Exception) -> str:
    return " ".join(_without_answer(error).split())


def _without_answer(error: Exception) -> str:
    """The message, without the whole answer of the server that PyMongo adds."""
    return str(error).partition(", full error: ")[0]
