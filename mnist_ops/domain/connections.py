"""A connection to a server, in Airflow's terms: address, credentials and options."""

from collections.abc import Mapping
from dataclasses import dataclass, field


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
    """

    host: str | None = None
    port: int | None = None
    schema: str | None = None
    login: str | None = None
    password: str | None = field(default=None, repr=False)
    extra: Mapping[str, object] = field(default_factory=dict, repr=False)
