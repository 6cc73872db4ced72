"""A connection to a server, in Airflow's terms: address, credentials and options; and why one failed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mnist_ops.domain.errors import Permanent, Transient

_REFUSED = "connection refused; is the server running?"
_STACK_HINT = " (`mnist-ops stack up` starts the embedded one)"
_UNKNOWN_HOST = "unknown host; correct the address in the connection"
_NO_ANSWER = "no answer in time; is the address right, and does the server run?"
_CLOSED = "the server closed the connection; does only one side use TLS?"
# What the operating system and OpenSSL say, and what it means. The first may pass by itself.
_MAY_PASS = {
    "Connection refused": _REFUSED,
    "Name or service not known": _UNKNOWN_HOST,
    "No address associated with hostname": _UNKNOWN_HOST,
    "Temporary failure in name resolution": _UNKNOWN_HOST,
    "timed out": _NO_ANSWER,
    "Connection reset by peer": _CLOSED,
    "Remote end closed connection": _CLOSED,
    "connection closed": _CLOSED,
    "UNEXPECTED_EOF_WHILE_READING": _CLOSED,
}
_DOES_NOT_PASS = {
    "WRONG_VERSION_NUMBER": "the server does not speak TLS; correct the port, or use no TLS",
    "CERTIFICATE_VERIFY_FAILED": "the server's certificate is not trusted; give that of its authority "
    "(MongoDB: tlsCAFile in the extra; S3: AWS_CA_BUNDLE)",
}
_LOOPBACK = ("127.0.0.1:", "localhost:")


@dataclass(frozen=True, slots=True)
class Connection:
    """The address, credentials and options of one server.

    Attributes:
        host: the server's name or address.
        port: its port.
        schema: the database that authenticates, for MongoDB.
        login: the user name, or the access key.
        password: the password, or the secret key.
        extra: options by name, as the server's client takes them.
        name: what Airflow calls it, such as `mongo_default`; for messages.
    """

    host: str | None = None
    port: int | None = None
    schema: str | None = None
    login: str | None = None
    password: str | None = field(default=None, repr=False)
    extra: Mapping[str, object] = field(default_factory=dict, repr=False)
    name: str = field(default="", compare=False)


def connection_error(name: str, addresses: Sequence[str], cause: str) -> Transient | Permanent:
    """The error of a server that could not be reached: who, where, why, and what to do.

    Args:
        name: what was connected to, such as `mongo_default` or S3.
        addresses: `host:port` of its servers; empty if they are not known.
        cause: what the client says.
    """
    server = f"{name} ({', '.join(addresses)})" if addresses else name
    for words, meaning in _DOES_NOT_PASS.items():
        if words in cause:
            return Permanent(f"{server}: {meaning}")
    for words, meaning in _MAY_PASS.items():
        if words in cause:
            is_local = any(address.startswith(_LOOPBACK) for address in addresses)
            hint = _STACK_HINT if is_local and meaning == _REFUSED else ""
            return Transient(f"{server}: {meaning}{hint}")
    return Transient(f"{server}: {' '.join(cause.split())}")
