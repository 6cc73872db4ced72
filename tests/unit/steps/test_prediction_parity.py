"""The batch step and `predict_payloads` agree bit for bit."""

import io
import random

import numpy as np
from PIL import Image

from mnist_ops.domain.errors import ItemRejected
from mnist_ops.steps.artifacts.bundles import load_bundle
from mnist_ops.steps.artifacts.shard_kinds import PREDICTIONS
from mnist_ops.vision.inference.predict import Answer, predict_payloads
from tests.support.pipeline_in_memory import MODEL, Pipeline, png_of, shard_rows, url_of

IMAGES = 500
REVIEW_BELOW = 0.9


def payload_of(number: int) -> bytes:
    """A sample digit: most as a PNG, every tenth as a larger JPEG, every fiftieth cut short."""
    png = png_of(number)
    if number % 50 == 49:
        return png[:-30]
    if number % 10:
        return png
    larger = io.BytesIO()
    Image.open(io.BytesIO(png)).resize((60, 60)).save(larger, "JPEG")
    return larger.getvalue()


def bits(value: float) -> bytes:
    """A number's bits as float32, as which it is stored."""
    return np.float32(value).tobytes()


def test_answers_in_batches_of_any_size_have_the_bits_of_the_prediction_shard(pipeline: Pipeline) -> None:
    """500 images, shuffled, in random batches of 1 to 64, bad ones among them."""
    payloads = {url_of(number): payload_of(number) for number in range(IMAGES)}
    for number, (url, payload) in enumerate(payloads.items()):
        pipeline.add(number, image_url=url)
        pipeline.images.images[url] = payload
    (shard,) = pipeline.classify(pipeline.fetch(pipeline.snapshot()), REVIEW_BELOW)
    expected = {str(row["url"]): row for row in shard_rows(pipeline.objects, PREDICTIONS, shard)}
    champion = pipeline.models.champion(MODEL)
    assert champion is not None
    classifier = load_bundle(pipeline.objects, champion, pipeline.load)

    rng = random.Random(12)
    waiting, answers = rng.sample(list(payloads), IMAGES), dict[str, Answer | ItemRejected]()
    while waiting:
        size = rng.choice((1, 1, 2, 3, rng.randint(4, 64)))
        batch, waiting = waiting[:size], waiting[size:]
        results = predict_payloads([payloads[url] for url in batch], classifier, REVIEW_BELOW)
        answers |= zip(batch, results, strict=True)

    assert sum(isinstance(answer, ItemRejected) for answer in answers.values()) == IMAGES // 50
    for url, row in expected.items():
        answer = answers[url]
        if isinstance(answer, ItemRejected):
            assert (str(answer.reason), answer.detail) == (row["reason"], row["detail"])
        else:
            assert list(map(bits, answer.probabilities)) == list(map(bits, row["probabilities"] or ()))
            assert (answer.index, answer.review_reason) == (row["index"], row["review_reason"])
