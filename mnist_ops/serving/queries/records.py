"""One record as its page shows it: found by id or URL, its fields in words, and its picture."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mnist_ops.domain.errors import MnistOpsError
from mnist_ops.domain.record_ids import possible_ids, readable_id
from mnist_ops.domain.records import FieldNames, RecordHead
from mnist_ops.pipeline import Pipeline
from mnist_ops.serving.pictures import Picture, picture

RECORDS_SHOWN = 100
_LONGEST_VALUE = 500  # characters of a field of the record
_PICTURE_SIDE = 224  # pixels

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class FoundRecord:
    """A record as it is now.

    Attributes:
        id_json: its `_id` as canonical Extended JSON.
        document: the whole record in relaxed Extended JSON.
    """

    id_json: str
    document: Document


def find_records(pipeline: Pipeline, text: str) -> list[FoundRecord]:
    """The records that somebody may mean, at most 100.

    Args:
        pipeline: the deployment's.
        text: an id (a text, the digits of an ObjectId, a number, canonical Extended JSON), or an image URL.

    Raises:
        UsageError: it looks like Extended JSON, and is no id.
    """
    ids = possible_ids(text)
    found = _whole(pipeline, ids)
    return found or _whole(pipeline, pipeline.adapters.record_index.ids_of_url(text, RECORDS_SHOWN))


def _whole(pipeline: Pipeline, ids: Sequence[str]) -> list[FoundRecord]:
    return [FoundRecord(one, document) for one, document in pipeline.adapters.records.whole(ids).items()]


def head_of(pipeline: Pipeline, id_json: str) -> RecordHead | None:
    """The present head of a record; None if it does not exist.

    Raises:
        UsageError: it is no id in canonical Extended JSON.
    """
    return pipeline.adapters.records.heads([id_json]).get(id_json)


@dataclass(frozen=True, slots=True)
class WrittenPrediction:
    """A prediction as the record has it; other programs may have written it, so that anything may be missing.

    Attributes:
        label: the predicted label.
        confidence: its probability, 0 to 1.
        probabilities: of every class, by name, 0 to 1.
        review_reason: why a person should look at it; None if nobody has to.
        model: the model's name.
        version: the model's version.
        digest: the bundle's digest.
        image_url: where the image was.
        sha256: of the image's bytes.
        run: the key of the run that predicted.
        generation: the number of its generation.
        snapshot: the digest of its manifest.
        at: when the run selected the record.
    """

    label: str
    confidence: float | None
    probabilities: Mapping[str, float]
    review_reason: str | None
    model: str | None
    version: int | None
    digest: str | None
    image_url: str | None
    sha256: str | None
    run: str | None
    generation: int | None
    snapshot: str | None
    at: str | None

    @staticmethod
    def of(document: object) -> "WrittenPrediction | None":
        """Read a stored prediction; None if it is no document."""
        if not isinstance(document, Mapping):
            return None
        model, image = _mapping(document.get("model")), _mapping(document.get("image"))
        shares = _mapping(document.get("probabilities"))
        reason = document.get("review_reason") or ("marked" if document.get("needs_review") else None)
        return WrittenPrediction(
            label=in_words(document.get("label")),
            confidence=_share(document.get("confidence")),
            probabilities={name: share for name in shares if (share := _share(shares[name])) is not None},
            review_reason=_text(reason),
            model=_text(model.get("name")),
            version=_whole_number(model.get("version")),
            digest=_text(model.get("digest")),
            image_url=_text(image.get("url")),
            sha256=_text(image.get("sha256")),
            run=_text(document.get("run")),
            generation=_whole_number(document.get("generation")),
            snapshot=_text(document.get("snapshot")),
            at=_text(document.get("at")),
        )


@dataclass(frozen=True, slots=True)
class RecordView:
    """A record's page.

    Attributes:
        id_json: its `_id` as canonical Extended JSON.
        url: of its image.
        created_at: when it was created.
        label: the human label; None if there is none.
        review: who labelled it on the review page, when, and what the label was before; empty otherwise.
        prediction: the newest one; None if there is none.
        history: the former ones, newest first.
        failure: the last failed attempt, by field; empty if there is none.
        others: the other fields of the record, in words.
        picture: the image that the prediction, or else the failed attempt, was made from.
    """

    id_json: str
    url: str | None
    created_at: str | None
    label: str | None
    review: Mapping[str, str]
    prediction: WrittenPrediction | None
    history: Sequence[WrittenPrediction]
    failure: Mapping[str, str]
    others: Sequence[tuple[str, str]]
    picture: Picture


def record_view(pipeline: Pipeline, found: FoundRecord, *, pictured: bool = True) -> RecordView:
    """What a record's page shows of it.

    Args:
        pipeline: the deployment's.
        found: the record.
        pictured: whether to read its image from the shards of the run that wrote the prediction.
    """
    fields, document = pipeline.settings.fields, found.document
    prediction = WrittenPrediction.of(document.get(fields.prediction))
    former = document.get(fields.prediction_history)
    failure = _mapping(document.get(fields.prediction_failure))
    history = [WrittenPrediction.of(one) for one in former] if isinstance(former, list) else []
    return RecordView(
        id_json=found.id_json,
        url=_text(_at(document, fields.image_url)),
        created_at=_text(_at(document, fields.created_at)),
        label=_text(_at(document, fields.label)),
        review=_in_words(_mapping(document.get(fields.label_review))),
        prediction=prediction,
        history=[one for one in history if one is not None],
        failure=_in_words(failure),
        others=_others(document, fields),
        picture=_picture(pipeline, found.id_json, prediction, failure) if pictured else Picture(),
    )


def _picture(
    pipeline: Pipeline, id_json: str, prediction: WrittenPrediction | None, failure: Document
) -> Picture:
    if prediction is not None:
        run, generation = prediction.run, prediction.generation
    elif failure:
        # A failure does not say which generation it is of.
        run, generation = failure.get("run"), None
    else:
        return Picture(why_not="No run has fetched it yet.")
    try:
        stored = pipeline.image_of_record(run, generation, id_json)
    except MnistOpsError as error:
        return Picture(why_not=f"The image cannot be read: {error}.")
    if stored is None:
        return Picture(why_not="The run's image shard is not stored any more.")
    if stored.payload is not None:
        return picture(stored.payload, _PICTURE_SIDE)
    return Picture(why_not=stored.detail or "The image is not stored any more.")


def _others(document: Document, fields: FieldNames) -> list[tuple[str, str]]:
    """The fields that the page does not show elsewhere."""
    shown = {
        "_id",
        fields.image_url,
        fields.created_at,
        fields.label,
        fields.label_review,
        fields.prediction,
        fields.prediction_history,
        fields.prediction_failure,
    }
    return [(name, in_words(value)) for name, value in document.items() if name not in shown]


def in_words(value: object) -> str:
    """A value in relaxed Extended JSON, at most 500 characters; dates and ids without their type."""
    if isinstance(value, Mapping) and len(value) == 1 and isinstance(date := value.get("$date"), str):
        return date
    text = value if isinstance(value, str) else readable_id(json.dumps(value, ensure_ascii=False))
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"


def _in_words(document: Document) -> dict[str, str]:
    return {name: in_words(value) for name, value in document.items() if value is not None}


def _text(value: object) -> str | None:
    return None if value is None else in_words(value)


def _mapping(value: object) -> Document:
    return value if isinstance(value, Mapping) else {}


def _whole_number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _share(value: object) -> float | None:
    """A probability; None if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        return None
    return float(value) if 0 <= value <= 1 else None


def _at(document: Document, path: str) -> object:
    """The value at a dotted path; None where there is none."""
    value: object = document
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
