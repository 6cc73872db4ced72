"""The report of a released model: one HTML page that loads nothing, its plots, and their data.

The page is the template `templates/report.html.jinja`; this module computes what it shows.
"""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mnist_ops.domain.gate import Disagreements
from mnist_ops.domain.statistics import mcnemar_exact
from mnist_ops.vision.data.examples import Examples
from mnist_ops.vision.evaluation.calibration import reliability
from mnist_ops.vision.evaluation.metrics import Evaluation
from mnist_ops.vision.inference.bundle import Card
from mnist_ops.vision.inference.softmax import softmax
from mnist_ops.vision.models.trained_model import TrainedModel
from mnist_ops.vision.release import plots
from mnist_ops.vision.release.report_data import FILE, ReportData, WorstExample, image_text

INDEX = "index.html"
TEMPLATE = "report.html.jinja"
TEST, VALIDATION = "test", "validation"

_MEASURES = ("digits", "accuracy", "95 % interval", "NLL", "Brier", "ECE")


@dataclass(frozen=True, slots=True)
class Champion:
    """The champion that the model was compared with.

    Attributes:
        digest: the digest of its bundle.
        test: its evaluation on the same test fold.
        disagreements: counts of test examples that only one of the two models gets right.
    """

    version: int
    digest: str
    test: Evaluation
    disagreements: Disagreements


@dataclass(frozen=True, slots=True)
class ReportedModel:
    """Everything that a report shows.

    Attributes:
        title: the heading, such as "lenet5, version 7".
        digest: the digest of the bundle.
        card: the bundle's card; its metrics are the calibrated ones.
        uncalibrated: the evaluation by fold at temperature 1.
        examples: the test fold.
        logits: float32 (N, 10), those of the test fold.
        champion: the comparison with the champion, None without one; the champion may be this model.
    """

    title: str
    digest: str
    card: Card
    trained: TrainedModel
    uncalibrated: Mapping[str, Evaluation]
    examples: Examples
    logits: NDArray[np.float32]
    champion: Champion | None

    @property
    def other_champion(self) -> Champion | None:
        """The champion, unless it is this model."""
        return self.champion if self.champion and self.champion.digest != self.digest else None


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot of the report.

    Attributes:
        title: the heading above it.
        caption: what it shows; also its alternative text.
    """

    title: str
    caption: str
    png: bytes

    @property
    def base64(self) -> str:
        """The image as base64, for a `data:` URL."""
        return base64.b64encode(self.png).decode()


def write_report(folder: Path, model: ReportedModel) -> Path:
    """Write `report/index.html`, its plots and their data into a bundle's folder; return the page's path.

    The bundle's digest excludes them. The page holds its pictures and loads nothing. Text from outside, such
    as a label, is escaped.
    """
    report = folder / "report"
    report.mkdir(parents=True, exist_ok=True)
    calibrated = softmax(model.logits, model.card.temperature)
    mistakes = plots.worst_mistakes(calibrated, model.examples.labels)
    data = _data(model, calibrated, mistakes)
    (report / FILE).write_bytes(data.to_json())
    drawn = _plots(model, data, mistakes)
    for name, plot in drawn.items():
        (report / f"{name}.png").write_bytes(plot.png)
    page = report / INDEX
    page.write_text(_page(model, drawn), encoding="utf-8")
    return page


def _data(
    model: ReportedModel, calibrated: NDArray[np.floating], mistakes: Sequence[plots.Mistake]
) -> ReportData:
    truth = model.examples.labels
    return ReportData(
        best_step=model.trained.best_step,
        history=model.trained.history,
        before=reliability(softmax(model.logits, 1.0), truth),
        after=reliability(calibrated, truth),
        worst=tuple(
            WorstExample(
                label=mistake.given,
                predicted=mistake.predicted,
                probability=float(calibrated[mistake.index, mistake.given]),
                image=image_text(model.examples.images[mistake.index]),
            )
            for mistake in mistakes
        ),
    )


def _plots(model: ReportedModel, data: ReportData, mistakes: Sequence[plots.Mistake]) -> dict[str, Plot]:
    """The plots by the name of their file, without the suffix."""
    labels = model.card.labels

    def plot(title: str, caption: str, figure: Figure) -> Plot:
        return Plot(title, caption, plots.png(figure))

    return {
        "learning-curves": plot(
            "Learning curves",
            f"Training and validation by epoch; the weights of epoch {model.trained.best.epoch} were kept.",
            plots.learning_curves(model.trained),
        ),
        "confusion": plot(
            "Confusion",
            "Test digits by label (row) and prediction (column): blue is right, orange is wrong.",
            plots.confusion_matrix(model.card.metrics[TEST], labels),
        ),
        "reliability": plot(
            "Reliability",
            "Accuracy against confidence on the test fold. On the dashed line, 90 % sure is 90 % right.",
            plots.reliability_diagram(data.before, data.after),
        ),
        "worst-examples": plot(
            "Worst examples",
            "The test digits with the highest loss: their label, and their prediction.",
            plots.worst_examples(model.examples, mistakes, labels),
        ),
    }


def _page(model: ReportedModel, drawn: Mapping[str, Plot]) -> str:
    environment = Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE).render(
        title=model.title,
        network=model.card.architecture,
        test_digits=model.card.metrics[TEST].samples,
        tiles=list(_tiles(model)),
        measure_names=_MEASURES,
        measures=list(_measures(model)),
        comparison=_comparison(model),
        was_champion=model.champion is not None,
        plots=drawn,
        classes=list(_classes(model)),
        hyperparameters=model.card.hyperparameters,
        provenance=_provenance(model),
    )


def _tiles(model: ReportedModel) -> Iterator[dict[str, str]]:
    test, uncalibrated = model.card.metrics[TEST], model.uncalibrated[TEST]
    interval = f"{test.accuracy_low:.2%} to {test.accuracy_high:.2%}"
    yield {"name": "Accuracy", "value": f"{test.accuracy:.2%}", "note": interval}
    yield {"name": "NLL", "value": f"{test.nll:.4f}", "note": "nats"}
    yield {"name": "Brier", "value": f"{test.brier:.4f}", "note": "of 2"}
    yield {"name": "ECE", "value": f"{test.ece:.4f}", "note": f"{uncalibrated.ece:.4f} before"}
    yield {"name": "Temperature", "value": f"{model.card.temperature:.3g}", "note": "fitted on validation"}
    if champion := model.other_champion:
        gain = 100 * (test.accuracy - champion.test.accuracy)
        yield {"name": "Champion", "value": f"{gain:+.2f}", "note": f"points over v{champion.version}"}


def _measures(model: ReportedModel) -> Iterator[tuple[str, ...]]:
    for fold in (VALIDATION, TEST):
        for state, measures in (("temperature 1", model.uncalibrated), ("calibrated", model.card.metrics)):
            if fold in measures:
                yield (f"{fold}, {state}", *_numbers(measures[fold]))


def _numbers(measures: Evaluation) -> tuple[str, ...]:
    """The values below `_MEASURES`."""
    return (
        f"{measures.samples:,}",
        f"{measures.accuracy:.2%}",
        f"{measures.accuracy_low:.2%} to {measures.accuracy_high:.2%}",
        f"{measures.nll:.4f}",
        f"{measures.brier:.4f}",
        f"{measures.ece:.4f}",
    )


def _comparison(model: ReportedModel) -> dict[str, object] | None:
    """The comparison with the champion, None if there was no other one."""
    champion = model.other_champion
    if champion is None:
        return None
    only_this = champion.disagreements.challenger_only_right
    only_champion = champion.disagreements.champion_only_right
    return {
        "rows": [
            ("this model", *_numbers(model.card.metrics[TEST])),
            (f"champion, version {champion.version}", *_numbers(champion.test)),
        ],
        "only_this_right": only_this,
        "only_champion_right": only_champion,
        "p_value": mcnemar_exact(only_this, only_champion),
    }


def _classes(model: ReportedModel) -> Iterator[tuple[str, ...]]:
    """Rows of label, digits, wrong, accuracy."""
    test = model.card.metrics[TEST]
    by_class = zip(model.card.labels, test.confusion, test.per_class_accuracy, strict=True)
    for index, (label, row, accuracy) in enumerate(by_class):
        digits, wrong = sum(row), sum(row) - row[index]
        yield label, f"{digits:,}", f"{wrong:,}", "none" if accuracy is None else f"{accuracy:.2%}"


def _provenance(model: ReportedModel) -> dict[str, str]:
    card = model.card
    return {
        "bundle": model.digest,
        "training": card.training_digest,
        "data set": card.dataset_digest,
        "preprocessing": f"version {card.preprocessing_version}",
        "abstention": f"a score above {card.abstention.threshold:.4g} is not a digit",
        "weights": f"epoch {model.trained.best.epoch} of {model.trained.history[-1].epoch}",
        "made with": ", ".join(f"{name} {version}" for name, version in card.environment.items()),
    }
