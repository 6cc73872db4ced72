"""What a reviewer sees of one record."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mnist_ops.domain.drawn_audits import DrawnAudit
from mnist_ops.domain.label_keys import label_keys
from mnist_ops.domain.record_index import fingerprint
from mnist_ops.domain.records import RecordHead
from mnist_ops.pipeline import Pipeline
from mnist_ops.serving.pictures import Picture
from mnist_ops.serving.queries.label_table import champion_labels
from mnist_ops.serving.queries.review_pictures import Place, pictures_of

_WHY = {
    "low_confidence": "The network is not sure: its confidence is under the limit of the settings.",
    "not_a_digit": "The image does not look like a digit, so no label may fit.",
}


@dataclass(frozen=True, slots=True)
class LabelButton:
    """One answer.

    Attributes:
        name: the label.
        keys: what to press for it.
        predicted: whether the network says so; never in an audit, which must not suggest an answer.
    """

    name: str
    keys: tuple[str, ...]
    predicted: bool = False


@dataclass(frozen=True, slots=True)
class SeenPrediction:
    """The prediction of a record, as a reviewer sees it.

    Attributes:
        label: the predicted label.
        confidence: its probability, 0 to 1; None if it is not a number.
        probabilities: of every label, by name.
        why: why it needs a review, as a sentence.
    """

    label: str
    confidence: float | None
    probabilities: Mapping[str, float]
    why: str


@dataclass(frozen=True, slots=True)
class ReviewItem:
    """One record to answer.

    Attributes:
        record: its `_id` as canonical Extended JSON.
        seen: the digest of what is seen of it; empty in an audit.
        url: of its image.
        picture: its image.
        buttons: the answers.
        prediction: None in an audit.
        audit: the audit that asks; None if the prediction needs a review.
        position: in the audit's sample.
    """

    record: str
    seen: str
    url: str | None
    picture: Picture
    buttons: Sequence[LabelButton]
    prediction: SeenPrediction | None = None
    audit: str | None = None
    position: int | None = None


def items_of_records(steps: Pipeline, heads: Sequence[RecordHead]) -> list[ReviewItem]:
    """Records whose prediction needs a review, with their pictures."""
    places = [Place(head.stamp.run, head.stamp.generation, head.id_json) for head in heads]
    return [
        _item_of_record(head, picture, champion_labels(steps))
        for head, picture in zip(heads, pictures_of(steps, places), strict=True)
    ]


def items_of_audit(steps: Pipeline, audit: DrawnAudit, positions: Sequence[int]) -> list[ReviewItem]:
    """Some predictions of an audit's sample, without what was predicted."""
    sample = [audit.sample[position] for position in positions]
    places = [Place(drawn.generation.run, drawn.generation.number, drawn.record) for drawn in sample]
    return [
        ReviewItem(
            record=drawn.record,
            seen="",
            url=drawn.url,
            picture=picture,
            buttons=_buttons(audit.labels),
            audit=audit.id,
            position=position,
        )
        for position, drawn, picture in zip(positions, sample, pictures_of(steps, places), strict=True)
    ]


def labels_of(head: RecordHead, names: Sequence[str]) -> tuple[str, ...]:
    """The labels that a record can get: `names`, or without any those that its network knew."""
    return tuple(names) or tuple(_probabilities(head.prediction or {}))


def predicted_label(head: RecordHead) -> str:
    """What was predicted for a record; empty if that is no text."""
    label = (head.prediction or {}).get("label")
    return label if isinstance(label, str) else ""


def _item_of_record(head: RecordHead, picture: Picture, names: Sequence[str]) -> ReviewItem:
    prediction, label = head.prediction or {}, predicted_label(head)
    confidence = prediction.get("confidence")
    return ReviewItem(
        record=head.id_json,
        seen=fingerprint(head),
        url=head.image_url,
        picture=picture,
        buttons=_buttons(labels_of(head, names), label),
        prediction=SeenPrediction(
            label=label,
            confidence=confidence if isinstance(confidence, float) else None,
            probabilities=_probabilities(prediction),
            why=_why(prediction),
        ),
    )


def _buttons(names: Sequence[str], predicted: str | None = None) -> list[LabelButton]:
    pairs = zip(names, label_keys(names), strict=True)
    return [LabelButton(name, keys, name == predicted) for name, keys in pairs]


def _probabilities(prediction: Mapping[str, object]) -> dict[str, float]:
    stored = prediction.get("probabilities")
    if not isinstance(stored, Mapping):
        return {}
    return {str(name): float(share) for name, share in stored.items() if isinstance(share, int | float)}


def _why(prediction: Mapping[str, object]) -> str:
    if prediction.get("needs_review") is not True:
        return "The prediction is not marked for review: you asked for it."
    return _WHY.get(str(prediction.get("review_reason")), "The prediction is marked for review.")
