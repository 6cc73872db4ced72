"""The pipeline's own collections, and an insert-or-update that two clients may make at once."""

from collections.abc import Callable

from pymongo import WriteConcern
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError
from pymongo.read_concern import ReadConcern

from mnist_ops.adapters.mongo.bson_documents import CODEC, Document
from mnist_ops.adapters.mongo.errors import translated


def majority_collection(database: Database[Document], name: str) -> Collection[Document]:
    """A collection whose reads and writes are those of the majority."""
    return database.get_collection(
        name,
        codec_options=CODEC,
        write_concern=WriteConcern("majority"),
        read_concern=ReadConcern("majority"),
    )


def upserted(write: Callable[..., object], query: Document, document: Document) -> None:
    """Insert or update; where two inserts collide, the one that fails is repeated as an update."""
    try:
        translated(write, query, document, upsert=True)
    except DuplicateKeyError:
        translated(write, query, document, upsert=True)
