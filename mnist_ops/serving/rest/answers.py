"""Predictions as JSON, and errors as problems."""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache

from mnist_ops.domain.errors import ItemRejected
from mnist_ops.domain.keys import sha256_hex
from mnist_ops.domain.reasons import Reason
from mnist_ops.domain.records import BundleRef
from mnist_ops.serving.pictures import as_network_sees_it
from mnist_ops.serving.problems import Problem
from mnist_ops.serving.rest.service import Prediction

to_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


def answer_of(prediction: Prediction, payload: bytes, *, picture: bool = False) -> str:
    """The answer for an image, a JSON object.

    Args:
        prediction: of the image.
        payload: its bytes.
        picture: add what the network saw, as a PNG in base64: dark ink on white, 28 x 28 pixels.

    Raises:
        Problem: 413 or 422, the image cannot be classified; its reason and detail say why.
    """
    result = prediction.result
    if isinstance(result, ItemRejected):
        raise problem_of_image(result)
    answer = _template(tuple(prediction.labels), prediction.model) % (
        to_json(result.label),
        result.index,
        result.confidence,
        *result.probabilities,
        "true" if result.needs_review else "false",
        to_json(result.review_reason),
        sha256_hex(payload),
    )
    if picture:
        encoded = as_network_sees_it(result.digit).partition(",")[2]
        return f'{answer[:-1]},"picture":"{encoded}"}}'
    return answer


@lru_cache(maxsize=8)
def _template(labels: Sequence[str], model: BundleRef) -> str:
    """The answer of a model with places for what differs: to encode all of it takes five times as long."""
    names = [to_json(label).replace("%", "%%") for label in labels]
    probabilities = ",".join(f"{name}:%r" for name in names)
    identity = to_json(model.identity()).replace("%", "%%")
    return (
        f'{{"label":%s,"index":%d,"confidence":%r,"probabilities":{{{probabilities}}},"needs_review":%s,'
        f'"review_reason":%s,"model":{identity},"image":{{"sha256":"%s"}}}}'
    )


def problem_of_image(rejection: ItemRejected) -> Problem:
    """Why an image has no prediction."""
    status = 413 if rejection.reason is Reason.TOO_LARGE else 422
    return Problem(status, "The image cannot be classified", rejection.detail, reason=str(rejection.reason))


def details_of(problem: Problem) -> Mapping[str, object]:
    """A problem's details (RFC 9457), inside of another answer."""
    return {**problem.more, "title": problem.title, "status": problem.status, "detail": problem.detail}
