"""Makes a MongoDB client of a connection."""

import socket
from typing import Any
from urllib.parse import quote_plus

from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import PyMongoError

from mnist_ops.adapters.mongo.bson_documents import Document
from mnist_ops.domain.connections import Connection
from mnist_ops.domain.errors import Permanent

Mongo = MongoClient[Document]
MongoDatabase = Database[Document]

_PING_TIMEOUT_MS = 3_000


def mongo_client(where: Connection) -> Mongo:
    """Make a client of a connection, whose options are read as Airflow's MongoDB hook reads them.

    Raises:
        Permanent: the client refuses the connection.
    """
    options: dict[str, Any] = dict(where.extra)
    scheme = "mongodb+srv" if str(options.pop("srv", False)).lower() == "true" else "mongodb"
    if str(options.pop("allow_insecure", False)).lower() == "true":
        options["tlsAllowInvalidCertificates"] = True
    address = (where.host or "127.0.0.1") + (f":{where.port}" if where.port else "")
    if where.login and where.password:
        address = f"{quote_plus(where.login)}:{quote_plus(where.password)}@{address}"
    try:
        return MongoClient(f"{scheme}://{address}/{where.schema or ''}", **options)
    except (PyMongoError, ValueError, TypeError, OSError) as error:
        # Neither chained nor quoted: such an error may hold the password.
        names = ", ".join(sorted(options)) or "none"
        raise Permanent(
            f"mongo_default: {type(error).__name__}; its host, port or one of its options ({names}) is wrong"
        ) from None


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
