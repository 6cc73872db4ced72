"""What the pipeline reads of a record and what it writes into one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from mnist_ops.domain.keys import Generation
from mnist_ops.domain.reasons import Reason
from mnist_ops.domain.review import ReviewReason

HISTORY_LENGTH = 5


@dataclass(frozen=True, slots=True)
class FieldNames:
    """Where things stand in the user's records; the first three may be dotted paths.

    Attributes:
        image_url: the image's URL, a string.
        created_at: the creation time, a date.
        label: the human's label; the pipeline never writes it.
        prediction: the subdocument of the newest prediction.
        prediction_history: the former predictions, newest first, at most five.
        prediction_failure: the subdocument of the last failed attempt.
    """

    image_url: str = "image_url"
    created_at: str = "created_at"
    label: str = "label"
    prediction: str = "prediction"
    prediction_history: str = "prediction_history"
    prediction_failure: str = "prediction_failure"


@dataclass(frozen=True, slots=True)
class PredictionStamp:
    """Which prediction a record carries: enough to compare, and to set."""

    run: object = None
    generation: object = None
    digest: object = None


NO_PREDICTION = PredictionStamp()


@dataclass(frozen=True, slots=True)
class FailureStamp:
    """Which failure a record carries.

    Attributes:
        run: the run key that wrote it.
        last_at: when that run selected the record.
        image_url: the URL that failed; None when it was no string.
        reason: as written.
        attempts: runs that tried this URL.
        first_at: when the first of them selected the record.
        next_attempt_at: when to try again; None for a permanent failure.
    """

    run: object = None
    last_at: object = None
    image_url: object = None
    reason: object = None
    attempts: int = 0
    first_at: object = None
    next_attempt_at: object = None


NO_FAILURE = FailureStamp()


@dataclass(frozen=True, slots=True)
class RecordHead:
    """The fields of a record that the pipeline looks at.

    Attributes:
        id: the `_id`, of any BSON type; opaque here.
        id_json: the `_id` as canonical Extended JSON: how shards and ledgers name it.
        image_url: the URL, or None where the field is missing or no string.
        created_at: the creation time (UTC), or None where it is missing or no date.
        label: the human's label, None where there is none.
        prediction: the prediction subdocument as stored, None where there is none.
        failure: the failure it carries.
    """

    id: object
    id_json: str
    image_url: str | None
    created_at: datetime | None
    label: object = None
    prediction: Mapping[str, object] | None = None
    failure: FailureStamp = NO_FAILURE

    @property
    def stamp(self) -> PredictionStamp:
        """Which prediction the record carries."""
        return prediction_stamp(self.prediction)


def prediction_stamp(prediction: Mapping[str, object] | None) -> PredictionStamp:
    """Read the identity of a stored prediction; tolerant, since anybody may have written it."""
    if prediction is None:
        return NO_PREDICTION
    model = prediction.get("model")
    digest = model.get("digest") if isinstance(model, Mapping) else None
    return PredictionStamp(prediction.get("run"), prediction.get("generation"), digest)


@dataclass(frozen=True, slots=True)
class BundleRef:
    """A released model: where its bundle lies and what its card's digest is.

    Attributes:
        name: the model's name, such as `lenet5`.
        version: counts up from 1 within the name.
        uri: the bundle's folder in the object store.
        digest: `sha256:<hex>` of its card.
    """

    name: str
    version: int
    uri: str
    digest: str


@dataclass(frozen=True, slots=True)
class Prediction:
    """A machine's prediction with where it comes from.

    Attributes:
        label: the name of the likeliest class.
        index: of that class.
        confidence: its probability.
        probabilities: of every class, by name.
        review_reason: why a person should look at it; None where nobody need to.
        model: the bundle that predicted.
        image_url: where the image was.
        image_sha256: of its bytes, hexadecimal.
        generation: the run that predicted.
        snapshot: the digest of its manifest.
        at: when that run selected the record (UTC).
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
            "model": {
                "name": self.model.name,
                "version": self.model.version,
                "digest": self.model.digest,
            },
            "image": {"url": self.image_url, "sha256": self.image_sha256},
            "run": self.generation.run,
            "generation": self.generation.number,
            "snapshot": self.snapshot,
            "at": self.at,
        }


@dataclass(frozen=True, slots=True)
class PredictionFailure:
    """Why the last attempt at a record gave no prediction, and when the next one is due."""

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
            "run": self.run,
        }


@dataclass(frozen=True, slots=True)
class Change:
    """One compare-and-set write: it happens only if the record is still as it was snapshotted."""

    head: RecordHead
    outcome: Prediction | PredictionFailure


@dataclass(frozen=True, slots=True)
class WriteReport:
    """What the database said to a batch of changes.

    Attributes:
        matched: how many records were found as they were expected.
        refused: for changes the database would not take, by position: its words.
    """

    matched: int
    refused: Mapping[int, str] = field(default_factory=dict)
