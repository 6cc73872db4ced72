"""The page about a model, written beside its bundle."""

from pathlib import Path

from mnist_ops.domain.ports import ObjectStore
from mnist_ops.steps.artifacts.datasets import load_fold
from mnist_ops.steps.evaluate import Comparison
from mnist_ops.steps.train import Training
from mnist_ops.vision.data.folds import Fold
from mnist_ops.vision.inference.bundle import bundle_digest, load_card
from mnist_ops.vision.models.torch_backend import trained_logits
from mnist_ops.vision.release.report import Champion, ReportedModel, write_report


def report_bundle(
    folder: Path, title: str, training: Training, comparison: Comparison, objects: ObjectStore
) -> Path:
    """Write the report of a bundle that was just written into a folder; returns its page.

    The pictures of the test fold come from the training's own weights: nothing is chosen by them.

    Args:
        folder: the bundle's.
        title: for the page's heading.
        training: what the bundle was made of.
        comparison: its evaluation.
        objects: where the data set lies.
    """
    examples = load_fold(objects, training.dataset, Fold.TEST)
    model = ReportedModel(
        title=title,
        digest=bundle_digest(folder),
        card=load_card(folder),
        trained=training.model,
        uncalibrated=comparison.uncalibrated,
        examples=examples,
        logits=trained_logits(training.model, examples.images),
        champion=_champion(comparison),
    )
    return write_report(folder, model)


def _champion(comparison: Comparison) -> Champion | None:
    champion, test = comparison.champion, comparison.champion_test
    if champion is None or test is None or comparison.disagreements is None:
        return None
    return Champion(champion.version, champion.digest, test, comparison.disagreements)
