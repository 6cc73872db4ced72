"""The SQLite file of experiments: its tables, and connections to it.

Several processes on one machine may write at once: the file has a write-ahead log, transactions take
milliseconds, and a process that finds the file busy waits. Do not put the file on a network disk, where
SQLite cannot lock it.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from mnist_ops.domain.errors import Permanent, Transient

_BUSY_S = 30.0  # how long a process waits while others write

# Migrations: a file at version n has the first n of them. Append new ones at the end.
_VERSIONS = (
    (
        """CREATE TABLE experiments (
            name TEXT PRIMARY KEY,
            started_at TEXT NOT NULL,
            dataset TEXT NOT NULL,
            device TEXT NOT NULL,
            config TEXT NOT NULL,
            config_digest TEXT NOT NULL,
            environment TEXT NOT NULL,
            status TEXT NOT NULL,
            finished_at TEXT,
            best_epoch INTEGER,
            why TEXT
        ) STRICT""",
        # SQLite stores NaN as NULL.
        """CREATE TABLE scalars (
            experiment TEXT NOT NULL REFERENCES experiments (name) ON DELETE CASCADE,
            tag TEXT NOT NULL,
            step INTEGER NOT NULL,
            value REAL,
            PRIMARY KEY (experiment, tag, step)
        ) STRICT, WITHOUT ROWID""",
        """CREATE TABLE queues (
            experiment TEXT NOT NULL REFERENCES experiments (name) ON DELETE CASCADE,
            tag TEXT NOT NULL,
            step INTEGER NOT NULL,
            count INTEGER NOT NULL,
            mean REAL,
            std REAL,
            min REAL,
            max REAL,
            PRIMARY KEY (experiment, tag, step)
        ) STRICT, WITHOUT ROWID""",
        """CREATE TABLE hparams (
            experiment TEXT NOT NULL REFERENCES experiments (name) ON DELETE CASCADE,
            name TEXT NOT NULL,
            value TEXT NOT NULL,
            PRIMARY KEY (experiment, name)
        ) STRICT, WITHOUT ROWID""",
        """CREATE TABLE final_metrics (
            experiment TEXT NOT NULL REFERENCES experiments (name) ON DELETE CASCADE,
            name TEXT NOT NULL,
            value REAL,
            PRIMARY KEY (experiment, name)
        ) STRICT, WITHOUT ROWID""",
    ),
)


def ensure_schema(path: Path) -> None:
    """Create the file, its folder and its tables, or migrate the file to this version; idempotent.

    Raises:
        Transient: the file cannot be written, or is not an SQLite file.
        Permanent: a newer version wrote it.
    """
    with _translated(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # The journal mode cannot be changed inside a transaction. The file keeps it.
        with _connected(str(path)) as connection:
            if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                connection.execute("PRAGMA journal_mode = WAL")
    with writing(path) as connection:
        for statements in _VERSIONS[_version(connection, path) :]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(_VERSIONS)}")


@contextmanager
def writing(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a connection for one transaction; an exception inside rolls it back.

    Raises:
        Transient: the file cannot be written, or was busy for more than 30 s.
    """
    with _translated(path), _connected(str(path)) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        # With a write-ahead log, a power cut may lose the last numbers but cannot corrupt the file.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            if connection.in_transaction:  # SQLite itself ends it if the disk is full
                connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a read-only connection; its rows are `sqlite3.Row`.

    Raises:
        Permanent: the file does not exist, holds no experiments, or was written by a newer version.
        Transient: the file cannot be read now.
    """
    if not path.is_file():
        raise Permanent(f"{path}: there is no such file; no training has been tracked yet")
    address = f"file:{quote(str(path.absolute()))}?mode=ro"
    with _translated(path), _connected(address, uri=True) as connection:
        connection.row_factory = sqlite3.Row
        try:
            version = _version(connection, path)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            raise Permanent(f"{path}: {error}") from error
        if version < 1:
            raise Permanent(f"{path}: holds no experiments")
        yield connection


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Translate errors of SQLite and of the disk to Transient."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise Transient(f"{path}: {error}") from error


@contextmanager
def _connected(name: str, *, uri: bool = False) -> Iterator[sqlite3.Connection]:
    # No isolation level: the code itself begins and ends transactions.
    connection = sqlite3.connect(name, timeout=_BUSY_S, isolation_level=None, uri=uri)
    try:
        yield connection
    finally:
        connection.close()


def _version(connection: sqlite3.Connection, path: Path) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(_VERSIONS):
        raise Permanent(f"{path}: its version {version} is newer than {len(_VERSIONS)}, which is known here")
    return version
