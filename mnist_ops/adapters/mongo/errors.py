"""PyMongo's errors as the project's own."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from bson.errors import BSONError
from pymongo.errors import (
    ConnectionFailure,
    CursorNotFound,
    DuplicateKeyError,
    ExecutionTimeout,
    OperationFailure,
    PyMongoError,
    WTimeoutError,
)

from mnist_ops.domain.errors import Permanent, Transient

P = ParamSpec("P")
T = TypeVar("T")

# WriteConflict, ReadConcernMajorityNotAvailableYet.
_RETRYABLE_CODES = frozenset({112, 134})
_RETRYABLE_LABELS = ("RetryableWriteError", "TransientTransactionError")


def translate(error: PyMongoError | BSONError) -> Transient | Permanent:
    """Return PyMongo's error as one of ours: `Transient` where the same call may succeed later."""
    if isinstance(error, ConnectionFailure | ExecutionTimeout | WTimeoutError | CursorNotFound):
        return Transient(f"MongoDB did not answer: {error}")
    if isinstance(error, OperationFailure) and (
        error.code in _RETRYABLE_CODES or any(map(error.has_error_label, _RETRYABLE_LABELS))
    ):
        return Transient(f"MongoDB asks to retry: {error}")
    return Permanent(f"MongoDB refused: {error}")


def translated(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call PyMongo and translate its errors, except a duplicate key, which the caller handles."""
    try:
        return call(*args, **kwargs)
    except DuplicateKeyError:
        raise
    except (PyMongoError, BSONError) as error:
        raise translate(error) from error
