"""Predictions as JSON, and errors as problems."""

import json
from collections.abc import Mapping

from mnist_ops.domain.errors import ItemRejected
from mnist_ops.domain.keys import sha256_hex
from mnist_ops.domain.reasons import Reason
from mnist_ops.serving.pictures import as_network_sees_it
from mnist_ops.serving.problems import Problem
from mnist_ops.serving.rest.service import Prediction

_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


def to_json(value: object) -> bytes:
    """A value as compact JSON in UTF-8."""
    return _encode(value).encode()


def answer_of(prediction: Prediction, payload: bytes, *, picture: bool = False) -> dict[str, object]:
    """The answer for an image.

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
    answer: dict[str, object] = {
        "label": result.label,
        "index": result.index,
        "confidence": result.confidence,
        "probabilities": dict(zip(prediction.labels, result.probabilities, strict=True)),
        "needs_review": result.needs_review,
        "review_reason": result.review_reason,
        "model": prediction.model.identity(),
        "image": {"sha256": sha256_hex(payload)},
    }
    if picture:
        answer["picture"] = as_network_sees_it(result.digit).partition(",")[2]
    return answer


def problem_of_image(rejection: ItemRejected) -> Problem:
    """Why an image has no prediction."""
    status = 413 if rejection.reason is Reason.TOO_LARGE else 422
    return Problem(status, "The image cannot be classified", rejection.detail, reason=str(rejection.reason))


def details_of(problem: Problem) -> Mapping[str, object]:
    """A problem's details (RFC 9457), inside of another answer."""
    return {**problem.more, "title": problem.title, "status": problem.status, "detail": problem.detail}
