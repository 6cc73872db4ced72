"""The TCP ports of the embedded stack, all on 127.0.0.1."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass, fields

from mnist_ops.domain.errors import Permanent, UsageError

HOST = "127.0.0.1"
VARIABLE_PREFIX = "MNIST_OPS_PORT_"

# SeaweedFS runs a master, a volume server, a filer and an admin server, each with HTTP and gRPC, and the gRPC
# of its S3 gateway.
S3_INTERNAL_PORTS = 9


@dataclass(frozen=True, slots=True)
class Ports:
    """Where each part listens; the command line sets them from `MNIST_OPS_PORT_<FIELD>`.

    Attributes:
        mongo: SecantusDB.
        s3: SeaweedFS's S3 endpoint.
        s3_internal: the first of nine consecutive ports that SeaweedFS uses for itself.
        images: the image server.
        airflow: Airflow's UI and REST API.
    """

    mongo: int = 27117
    s3: int = 8333
    s3_internal: int = 18333
    images: int = 8334
    airflow: int = 8080

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Ports":
        """Read each port from its `MNIST_OPS_PORT_*` variable, where that is set.

        Raises:
            UsageError: a value is no port; the message names the variable.
        """
        given = {name: environment.get(variable(name), "") for name in _NAMES}
        return cls(**{name: _port(text, variable(name)) for name, text in given.items() if text})

    def of(self, part: str) -> Mapping[int, str]:
        """Return the ports that a part listens on, each with the name of the field that sets it."""
        if part == "s3":
            internal = range(self.s3_internal, self.s3_internal + S3_INTERNAL_PORTS)
            return {self.s3: "s3", **dict.fromkeys(internal, "s3_internal")}
        return {getattr(self, part): part} if part in _NAMES else {}


_NAMES = tuple(field.name for field in fields(Ports))


def variable(name: str) -> str:
    """Return the environment variable that sets a port: `s3_internal` gives `MNIST_OPS_PORT_S3_INTERNAL`."""
    return VARIABLE_PREFIX + name.upper()


def require_free(ports: Ports, parts: tuple[str, ...]) -> None:
    """Check that every port of these parts is free and used once.

    Raises:
        UsageError: two parts are given the same port.
        Permanent: another program uses one. Both are one line with the port, the part and the variable.
    """
    owners: dict[int, str] = {}
    for part in parts:
        for port, name in ports.of(part).items():
            if port in owners:
                raise UsageError(
                    f"port {port} is given to {owners[port]} and to {part}: set {variable(name)}"
                )
            owners[port] = part
            if not _is_free(port):
                raise Permanent(
                    f"port {port}, which {part} needs, is taken by another program: "
                    f"set {variable(name)} to a free one"
                )


def _port(text: str, name: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65_535:
        raise UsageError(f"{name}={text}: expected a port, 1 to 65535")
    return int(text)


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Ignores connections that have just ended, but not a listener on any address.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
