"""Makes a MongoDB client of a connection."""

import socket
import ssl
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import quote_plus

import pymongo
from pymongo import AsyncMongoClient, MongoClient
from pymongo.database import Database
from pymongo.errors import PyMongoError

from mnist_ops.adapters.mongo.bson_documents import Document
from mnist_ops.adapters.mongo.errors import dns_outage, is_dns_outage, translate
from mnist_ops.domain.connections import Connection
from mnist_ops.domain.errors import Transient, UsageError

Mongo = MongoClient[Document]
MongoDatabase = Database[Document]
AsyncMongo = AsyncMongoClient[Document]

Client = TypeVar("Client", Mongo, AsyncMongo)

# How long a call waits for a server. An election in a replica set takes about 12 s; pymongo waits for 30 s.
_SELECTION_OPTION = "serverSelectionTimeoutMS"
_SELECTION_TIMEOUT_MS = 15_000
_PING_TIMEOUT_MS = 3_000
_FIRST_ANSWER_S = 5.0
# A file that an option names, such as tlsCAFile, does not exist, cannot be read, or holds something else.
_WRONG_FILE = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError, ssl.SSLError)


def with_selection_timeout(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a client, which waits 15 s for a server unless they say otherwise."""
    is_given = _SELECTION_OPTION.lower() in map(str.lower, options)
    return dict(options) if is_given else {**options, _SELECTION_OPTION: _SELECTION_TIMEOUT_MS}


def mongo_client(where: Connection) -> Mongo:
    """Make a client of a connection, whose options are read as Airflow's MongoDB hook reads them.

    Raises:
        UsageError: the client refuses the connection.
        Transient: DNS did not answer for a `mongodb+srv` address.
    """
    address, options = _address_and_options(where)
    return made_client(lambda: MongoClient(address, **options), where)


def async_mongo_client(where: Connection) -> AsyncMongo:
    """Make a client for coroutines, as `mongo_client` makes one for threads; it connects when it is used."""
    address, options = _address_and_options(where)
    return made_client(lambda: AsyncMongoClient(address, **options), where)


def _address_and_options(where: Connection) -> tuple[str, dict[str, Any]]:
    options = with_selection_timeout(where.extra)
    scheme = "mongodb+srv" if str(options.pop("srv", False)).lower() == "true" else "mongodb"
    if str(options.pop("allow_insecure", False)).lower() == "true":
        options["tlsAllowInvalidCertificates"] = True
    address = (where.host or "127.0.0.1") + (f":{where.port}" if where.port else "")
    if where.login and where.password:
        address = f"{quote_plus(where.login)}:{quote_plus(where.password)}@{address}"
    return f"{scheme}://{address}/{where.schema or ''}", options


def made_client(make: Callable[[], Client], where: Connection) -> Client:
    """Make a client of a connection.

    Raises:
        UsageError: PyMongo refuses the connection; the message holds no secret of it.
        Transient: DNS did not answer for a `mongodb+srv` address, or the operating system failed.
    """
    name = where.name or "MongoDB"
    # Not chained: such an error may hold the password.
    try:
        return make()
    except (PyMongoError, ValueError, TypeError, *_WRONG_FILE) as error:
        if is_dns_outage(error):
            raise dns_outage(error, name) from None
        raise UsageError(f"{name}: {_reason(error, where)}") from None
    except OSError as error:
        raise Transient(f"{name}: {error.strerror or type(error).__name__}") from None


def connected(where: Connection) -> Mongo:
    """Make a client of a connection, and check that its server answers within 5 s and accepts its user.

    Later calls wait for as long as the connection's options say, since a replica set may elect a new primary.

    Raises:
        UsageError: the client refuses the connection.
        Transient: no server answered, or DNS did not.
        Permanent: it refused the user, or is not MongoDB.
    """
    client = mongo_client(where)
    try:
        with pymongo.timeout(min(_FIRST_ANSWER_S, client.options.server_selection_timeout)):
            client.admin.command("ping")
    except PyMongoError as error:
        client.close()
        raise translate(error, where.name or "MongoDB") from error
    return client


def _reason(error: Exception, where: Connection) -> str:
    """Why PyMongo refuses a connection; not in its own words if they may hold a secret."""
    text = " ".join(str(error).split())
    secrets = [where.password, where.login, *map(str, where.extra.values())]
    known = [part for secret in secrets if secret for part in (secret, quote_plus(secret))]
    if any(part in text for part in known):
        names = ", ".join(sorted(where.extra)) or "none"
        return f"{type(error).__name__}; its host, port or one of its options ({names}) is wrong"
    return f"{text}; correct its host, port or extra"


def mongo_answers(host: str, port: int) -> bool:
    """Whether a MongoDB server at an address answers `ping` within 3 s."""
    client: Mongo
    try:
        # pymongo retries for the whole time: see at once that nothing listens there.
        socket.create_connection((host, port), _PING_TIMEOUT_MS / 1_000).close()
    except OSError:
        return False
    with MongoClient(
        host,
        port,
        directConnection=True,
        serverSelectionTimeoutMS=_PING_TIMEOUT_MS,
        connectTimeoutMS=_PING_TIMEOUT_MS,
        socketTimeoutMS=_PING_TIMEOUT_MS,
    ) as client:
        try:
            client.admin.command("ping")
        except PyMongoError:
            return False
        return True
