"""Asking the parts whether they answer, each in its own protocol, without their client libraries."""

import socket
import struct
import time
import urllib.error
import urllib.request
from collections.abc import Callable

from mnist_ops.domain.errors import Permanent

# Asks once; returns what is still missing, in words, or None when all is there.
Probe = Callable[[], str | None]
# Shows a line of progress to people.
Tell = Callable[[str], None]

_ANSWER_S = 3.0
_BETWEEN_S = 0.1

# A proxy of the environment has no business between two processes of one machine.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def wait_until_ready(
    name: str, probe: Probe, *, patience: float, check: Callable[[], None], tell: Tell
) -> None:
    """Ask again and again, and say what is missing whenever that changes.

    Args:
        name: the part, for the messages.
        probe: asks once.
        patience: seconds until it is given up.
        check: called before each question; raises if waiting has become pointless.
        tell: shows what is being waited for.

    Raises:
        Permanent: it did not answer within `patience`.
    """
    end = time.monotonic() + patience
    said = None
    while True:
        check()
        missing = probe()
        if missing is None:
            return
        if missing != said:
            tell(f"{name}: waiting for {missing}")
            said = missing
        if time.monotonic() > end:
            raise Permanent(f"{name} did not answer within {patience:.0f} s: still waiting for {missing}")
        time.sleep(_BETWEEN_S)


def request(
    url: str, *, method: str = "GET", body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, bytes] | None:
    """Make one HTTP request; return status and body, or None if nobody answered."""
    # `url` is made of the stack's own ports, never of input.
    question = urllib.request.Request(url, data=body, headers=headers or {}, method=method)  # noqa: S310
    try:
        with _direct.open(question, timeout=_ANSWER_S) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
    except OSError:
        return None


def mongo_answers(host: str, port: int) -> bool:
    """Whether a server of MongoDB's wire protocol answers `ping`.

    Source: OP_MSG, https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/
    """
    elements = b"\x10ping\0\x01\0\0\0" + b"\x02$db\0\x06\0\0\0admin\0"
    document = struct.pack("<i", len(elements) + 5) + elements + b"\0"
    # Flags 0, then one section of kind 0: the command.
    message = struct.pack("<i", 0) + b"\0" + document
    header = struct.pack("<iiii", 16 + len(message), 1, 0, 2013)
    try:
        with socket.create_connection((host, port), timeout=_ANSWER_S) as connection:
            connection.sendall(header + message)
            return b"\x01ok\0" + struct.pack("<d", 1.0) in connection.recv(65_536)
    except OSError:
        return False
