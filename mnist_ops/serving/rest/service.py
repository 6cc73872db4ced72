"""What answers `/predict` and `/batch_predict`: the champion, the batcher and what they count."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from mnist_ops.domain.errors import ItemRejected
from mnist_ops.domain.records import BundleRef
from mnist_ops.pipeline import Pipeline
from mnist_ops.serving.deployment import Deployment
from mnist_ops.serving.rest.batching import Batcher
from mnist_ops.serving.rest.bodies import Budget
from mnist_ops.serving.rest.champions import Champions
from mnist_ops.serving.rest.metrics import Metrics
from mnist_ops.vision.inference.predict import Answer, predict_payloads


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What one image got.

    Attributes:
        result: the prediction, or why there is none.
        labels: the names of the classes, by index.
        model: which model predicted.
    """

    result: Answer | ItemRejected
    labels: Sequence[str]
    model: BundleRef


class PredictionService:
    """Predicts for many requests at once. Makes no connection and starts no thread before it is asked.

    Args:
        deployment: where the pipeline comes from.

    Attributes:
        champions: the model in use.
        batcher: puts requests together.
        budget: the memory that images may take.
        metrics: what is counted.
    """

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._max_image_bytes: int | None = None
        self.metrics = Metrics()
        self.champions = Champions(self._pipeline)
        self.budget = Budget()
        self.batcher: Batcher[Prediction] = Batcher(self._classify, self.metrics.batch)

    def _pipeline(self) -> Pipeline:
        return self._deployment.pipeline()

    async def max_image_bytes(self) -> int:
        """The largest image, in bytes: the batch pipeline's own limit."""
        if self._max_image_bytes is None:
            # In a thread: the first time, connections are read.
            pipeline = await asyncio.to_thread(self._pipeline)
            self._max_image_bytes = pipeline.settings.fetch_max_bytes
        return self._max_image_bytes

    def _classify(self, payloads: Sequence[bytes]) -> list[Prediction]:
        champion = self.champions.champion()
        results = predict_payloads(payloads, champion.classifier, champion.review_below)
        return [Prediction(result, champion.classifier.labels, champion.bundle) for result in results]
