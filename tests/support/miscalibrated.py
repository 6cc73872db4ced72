"""A real evaluation, distorted: the challenger's test fold is measured with a temperature that is wrong."""

from dataclasses import asdict

from mnist_ops.domain.keys import Generation
from mnist_ops.steps.artifacts.datasets import load_fold
from mnist_ops.steps.artifacts.objects import get_json, put_json
from mnist_ops.steps.artifacts.trainings import read_training
from mnist_ops.steps.evaluate import read_evaluation
from mnist_ops.vision.data.folds import Fold
from mnist_ops.vision.evaluation.metrics import evaluate
from mnist_ops.vision.inference.softmax import softmax
from mnist_ops.vision.models.torch_backend import trained_logits
from tests.support.pipeline_in_memory import Pipeline

WRONG = 20.0  # times the fitted temperature: right as often as before, and sure of nothing


def miscalibrated(pipeline: Pipeline, evaluation: str) -> str:
    """That evaluation with such probabilities of the challenger on the test fold; returns its URI.

    Every other measure stays: of validation, at temperature 1, and of the champion.
    """
    comparison = read_evaluation(pipeline.objects, evaluation)
    training = read_training(pipeline.objects, comparison.training)
    test = load_fold(pipeline.objects, training.dataset, Fold.TEST)
    logits = trained_logits(training.model, test.images)
    measured = evaluate(softmax(logits, WRONG * comparison.temperature), test.labels)
    challenger = {fold: asdict(found) for fold, found in comparison.challenger.items()}
    document = get_json(pipeline.objects, evaluation)
    document["challenger"] = challenger | {str(Fold.TEST): asdict(measured)}
    return put_json(pipeline.objects, "trainings", Generation("wrong"), "evaluation.json", document)
