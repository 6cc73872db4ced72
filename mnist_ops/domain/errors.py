"""The errors of MNIST Ops, split by what the caller does about them.

MnistOpsError
├── Transient            try again later: a peer did not answer, a race was lost
│   ├── OutcomeUnknown   the reply of a write was lost: read back before anything else
│   ├── NoChampion       no model is in production yet; in `serving.rest.champions`
│   └── Overloaded       more requests wait than can be answered soon; in `serving.rest.batching`
├── Permanent            fail now: a server refused, a damaged object, a broken contract
│   ├── UsageError       what a person gave is wrong: an argument, a form's field, a setting, a connection
│   ├── ObjectMissing    the named object is not in the store
│   ├── HistoryLost      the changes since a resume token are not known; in `arrivals`
│   ├── NoChangeStream   the server cannot tell of changes; in `arrivals`
│   ├── Problem          a request ends with an HTTP error; in `serving.problems`
│   ├── RunFailed        a run is over its budget or does not add up; in `run_summary`, with the ledger
│   └── Damaged          bytes differ from the digest that names them
└── ItemRejected         one record or image: record the reason and continue with the others

Adapters translate their client library's errors into these; no other error leaves them.

Airflow's tasks retry `Transient`, and fail at once on `Permanent`, `UsageError` included. The command line
exits with 4 on `Transient`, with 2 on `UsageError`, and with 3 on every other `Permanent`.
"""

from mnist_ops.domain.reasons import Reason


class MnistOpsError(Exception):
    """The base of all errors that this library raises."""


class Transient(MnistOpsError):
    """It may work later: the caller retries with back-off."""


class OutcomeUnknown(Transient):
    """A write's reply was lost, so it may or may not have been made: read back, never undo."""


class Permanent(MnistOpsError):
    """Retrying cannot help: the caller fails now. The message says what to do."""


class UsageError(Permanent):
    """What a person gave is wrong: correct it and start again. The message names it and what is allowed."""


class ObjectMissing(Permanent):
    """The object that a URI names does not exist."""


class Damaged(Permanent):
    """An object's bytes do not match its digest, or it is not in the expected format."""


class ItemRejected(MnistOpsError):
    """One item cannot be used; the others are processed.

    Attributes:
        reason: why, from the closed list.
        detail: one line for people: what was found, and what would be accepted.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
