"""Records as rows, and in words."""

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from mnist_ops.cli._support.run_names import readable_run
from mnist_ops.domain.record_ids import readable_id
from mnist_ops.domain.records import FieldNames

if TYPE_CHECKING:
    from mnist_ops.steps.run_records import RunRecord

COLUMNS = ("record", "outcome", "label or reason", "image")


def row(record: "RunRecord") -> list[str]:
    """The cells of `COLUMNS`."""
    words = []
    if record.label is not None:
        words.append(f"{record.label} ({record.confidence:.2%})")
    if record.review_reason is not None:
        words.append(f"needs review: {record.review_reason}")
    words += filter(None, [record.reason, record.detail])
    return [readable_id(record.record_id), record.outcome, ", ".join(words), record.url or "(no URL)"]


def facts(document: Mapping[str, Any], fields: FieldNames) -> Iterator[tuple[str, str]]:
    """Names and values of what `records show` prints.

    Args:
        document: a record in relaxed Extended JSON.
        fields: the names of the fields that the pipeline writes.
    """
    written = {fields.prediction, fields.prediction_history, fields.prediction_failure}
    for name, value in document.items():
        if name not in written:
            yield name, _text(value)
    prediction, failure = document.get(fields.prediction), document.get(fields.prediction_failure)
    history = document.get(fields.prediction_history)
    yield from _prediction(prediction) if isinstance(prediction, Mapping) else [("prediction", "none")]
    for former in history if isinstance(history, list) else []:
        yield "before", _predicted(former) if isinstance(former, Mapping) else _text(former)
    yield from _failure(failure) if isinstance(failure, Mapping) else [("failure", "none")]


def _prediction(prediction: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "prediction", _predicted(prediction)
    review = prediction.get("review_reason") or ("yes" if prediction.get("needs_review") else "no")
    yield "needs review", _text(review)
    probabilities = prediction.get("probabilities")
    if isinstance(probabilities, Mapping):
        likely = sorted(probabilities.items(), key=lambda item: _number(item[1]), reverse=True)
        yield "likeliest", ", ".join(f"{name} {_share(value)}" for name, value in likely[:3])
    yield "predicted by", _run(prediction)


def _predicted(prediction: Mapping[str, Any]) -> str:
    model = prediction.get("model")
    named = f"{model.get('name')} {model.get('version')}" if isinstance(model, Mapping) else "unknown"
    share = _share(prediction.get("confidence"))
    return f"{_text(prediction.get('label'))} ({share}), by {named} at {_text(prediction.get('at'))}"


def _failure(failure: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "failure", f"{_text(failure.get('reason'))}: {_text(failure.get('detail'))}"
    first, last = _text(failure.get("first_at")), _text(failure.get("last_at"))
    yield "attempts", f"{_text(failure.get('attempts'))}, the first at {first}, the last at {last}"
    due = failure.get("next_attempt_at")
    yield "next attempt", "none, unless the URL changes" if due is None else f"from {_text(due)}"
    yield "failed in", _run(failure)


def _run(written: Mapping[str, Any]) -> str:
    generation = written.get("generation")
    return readable_run(_text(written.get("run"))) + (f", generation {generation}" if generation else "")


def _share(value: object) -> str:
    return f"{_number(value):.2%}"


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


def _text(value: object) -> str:
    """A value in relaxed Extended JSON; dates and ids without their type."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        date = value.get("$date")
        return date if isinstance(date, str) and len(value) == 1 else readable_id(json.dumps(value))
    return json.dumps(value)
