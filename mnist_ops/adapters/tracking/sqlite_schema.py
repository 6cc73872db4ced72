"""The SQLite file that experiments are noted in: its tables, and how it is opened.

Several processes on one machine may write at once: write-ahead log, transactions of milliseconds, and
whoever finds the file busy waits. The file does not belong on a network disk, where SQLite cannot lock it.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from mnist_ops.domain.errors import Permanent, Transient

_BUSY_S = 30.0  # how long one waits for the others

# A file at version n has gone through the first n of these; new ones are added at the end.
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
    """Make the file, its folder and its tables, or bring it to this version; safe to repeat.

    Raises:
        Transient: the file cannot be written, or is none of SQLite's.
        Permanent: it was written by a newer version.
    """
    with _translated(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # The journal's mode cannot be changed inside a transaction; it stays with the file.
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
    """One short transaction: all of it is written, or nothing where it raises.

    Raises:
        Transient: the file cannot be written, or was busy for too long.
    """
    with _translated(path), _connected(str(path)) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        # With a write-ahead log, this loses the last numbers to a power cut and never harms the file.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            if connection.in_transaction:  # SQLite has ended it itself where the disk is full
                connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that cannot write; its rows are mappings.

    Raises:
        Permanent: there is no such file, it holds no experiments, or it was written by a newer version.
        Transient: it cannot be read now.
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
    """SQLite's errors, and those of the disk, become Transient."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise Transient(f"{path}: {error}") from error


@contextmanager
def _connected(name: str, *, uri: bool = False) -> Iterator[sqlite3.Connection]:
    # No isolation level: transactions begin and end where the code says so.
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
