"""The fields that the pipeline reads from a record, and those that it writes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from mnist_ops.domain.keys import Generation
from mnist_ops.domain.reasons import Reason
from mnist_ops.domain.review import ReviewReason

HISTORY_LENGTH = 5


@dataclass(frozen=True, slots=True)
class FieldNames:
    """The names of the fields in the user's records; the first three may be dotted paths.

    Attributes:
        image_url: the image's URL, a string.
        created_at: the creation time, a date.
        label: the human's label; no run writes it, and a reviewer does on the pages.
        prediction: the subdocument of the newest prediction.
        prediction_history: the former predictions, newest first, at most five.
        prediction_failure: the subdocument of the last failed attempt.
        label_review: the subdocument of the reviewer who wrote the label: who, when, and what it was.
    """

    image_url: str = "image_url"
    created_at: str = "created_at"
    label: str = "label"
    prediction: str = "prediction"
    prediction_history: str = "prediction_history"
    prediction_failure: str = "prediction_failure"
    label_review: str = "label_review"


@dataclass(frozen=True, slots=True)
class EmptyCollection:
    """A collection that should hold the records and holds none.

    Attributes:
        name: `database.collection`.
        exists: whether the database has it.
        nearest: another collection that may be meant, as `database.collection`; None if there is none.
    """

    name: str
    exists: bool
    nearest: str | None = None

    def __str__(self) -> str:
        what = "holds no record" if self.exists else "does not exist"
        other = f"; the nearest collection that exists is {self.nearest}" if self.nearest else ""
        return (
            f"the collection {self.name} {what}{other}; "
            "if the name is wrong, set MNIST_OPS_MONGO_DATABASE or MNIST_OPS_MONGO_COLLECTION"
        )


@dataclass(frozen=True, slots=True)
class PredictionStamp:
    """The identity of a record's prediction, for compare-and-set."""

    run: object = None
    generation: object = None
    digest: object = None


NO_PREDICTION = PredictionStamp()


@dataclass(frozen=True, slots=True)
class FailureStamp:
    """The identity of a record's failure, for compare-and-set.

    Attributes:
        run: the key of the run that wrote it.
        last_at: when that run selected the record.
        image_url: the URL that failed; None if it was not a string.
        reason: the reason, as stored.
        attempts: the number of runs in a row that tried this URL.
        first_at: when the first of them selected the record.
        next_attempt_at: when to try again (UTC); None for a permanent failure.
    """

    run: object = None
    last_at: object = None
    image_url: object = None
    reason: object = None
    attempts: int = 0
    first_at: object = None
    next_attempt_at: datetime | None = None


NO_FAILURE = FailureStamp()


@dataclass(frozen=True, slots=True)
class RecordHead:
    """The fields of a record that the pipeline reads.

    Attributes:
        id: the `_id`, of any BSON type; opaque here.
        id_json: the `_id` as canonical Extended JSON, as in shards and ledgers.
        image_url: the URL; None if the field is missing or not a string.
        created_at: the creation time (UTC); None if it is missing or not a date.
        label: the human's label; None if there is none.
        prediction: the prediction subdocument as stored; None if there is none.
        failure: the identity of its failure.
        label_review: the subdocument of the reviewer who wrote the label, as stored; None if there is none.
    """

    id: object
    id_json: str
    image_url: str | None
    created_at: datetime | None
    label: object = None
    prediction: Mapping[str, object] | None = None
    failure: FailureStamp = NO_FAILURE
    label_review: Mapping[str, object] | None = None

    @property
    def stamp(self) -> PredictionStamp:
        """The identity of the record's prediction."""
        return prediction_stamp(self.prediction)

    @property
    def failed_here(self) -> bool:
        """Whether the failure is one of the record's present URL."""
        return self.failure.attempts > 0 and self.failure.image_url == self.image_url


def prediction_stamp(prediction: Mapping[str, object] | None) -> PredictionStamp:
    """The identity of a stored prediction, which may have any form: other programs may have written it."""
    if prediction is None:
        return NO_PREDICTION
    model = prediction.get("model")
    digest = model.get("digest") if isinstance(model, Mapping) else None
    return PredictionStamp(prediction.get("run"), prediction.get("generation"), digest)


@dataclass(frozen=True, slots=True)
class BundleRef:
    """A released model: its bundle's URI and digest.

    Attributes:
        name: the model's name, such as `lenet5`.
        version: counts up from 1 for each name.
        uri: the bundle's folder in the object store.
        digest: `sha256:<hex>` of its card.
    """

    name: str
    version: int
    uri: str
    digest: str

    def identity(self) -> dict[str, object]:
        """As records and ledgers name it: without the URI, which depends on the deployment."""
        return {"name": self.name, "version": self.version, "digest": self.digest}


@dataclass(frozen=True, slots=True)
class Prediction:
    """A prediction, with the model, the image and the run that it comes from.

    Attributes:
        label: the name of the likeliest class.
        index: of that class.
        confidence: its probability.
        probabilities: of every class, by name.
        review_reason: why a person should look at it; None if nobody has to.
        model: the bundle that predicted.
        image_url: where the image was.
        image_sha256: of its bytes, hexadecimal.
        generation: the generation that predicted.
        snapshot: `sha256:<hex>` of its manifest.
        at: when it selected the record (UTC).
    """

    label: str
    index: int
    confidence: float
    probabilities: Mapping[str, float]
    review_reason: ReviewReason | None
    model: BundleRef
    image_url: str
    image_sha256: str
    generation: Generation
    snapshot: str
    at: datetime

    def document(self) -> dict[str, object]:
        """The subdocument as it is written into the record."""
        return {
            "label": self.label,
            "index": self.index,
            "confidence": self.confidence,
            "probabilities": dict(self.probabilities),
            "needs_review": self.review_reason is not None,
            "review_reason": None if self.review_reason is None else str(self.review_reason),
            "model": self.model.identity(),
            "image": {"url": self.image_url, "sha256": self.image_sha256},
            "run": self.generation.run,
            "generation": self.generation.number,
            "snapshot": self.snapshot,
            "at": self.at,
        }


@dataclass(frozen=True, slots=True)
class PredictionFailure:
    """Why the last attempt to classify a record failed, and when the next one is due.

    Attributes:
        reason: why, from the closed list.
        detail: one line for people.
        image_url: the URL that failed; None if it was not a string.
        attempts: the number of runs in a row that tried this URL.
        first_at: when the first of them selected the record (UTC).
        last_at: when the last of them selected it (UTC).
        next_attempt_at: when to try again (UTC); None for a permanent failure.
        run: the key of the run that failed.
    """

    reason: Reason
    detail: str
    image_url: str | None
    attempts: int
    first_at: datetime
    last_at: datetime
    next_attempt_at: datetime | None
    run: str

    def document(self) -> dict[str, object]:
        """The subdocument as it is written into the record."""
        return {
            "reason": str(self.reason),
            "detail": self.detail,
            "image_url": self.image_url,
            "attempts": self.attempts,
            "first_at": self.first_at,
            "last_at": self.last_at,
            "next_attempt_at": self.next_attempt_at,
            "permanent": self.next_attempt_at is None,
            "run": self.run,
        }


@dataclass(frozen=True, slots=True)
class Change:
    """One compare-and-set write: made only if the record is still as it was when the snapshot was taken."""

    head: RecordHead
    outcome: Prediction | PredictionFailure


@dataclass(frozen=True, slots=True)
class WriteReport:
    """The database's reply to a batch of changes.

    Attributes:
        matched: the number of records that were as expected.
        refused: the database's message for each change that it refused, by position.
    """

    matched: int
    refused: Mapping[int, str] = field(default_factory=dict)
