"""The charts of a released model: its learning curves and its reliability diagram."""

import math

from markupsafe import Markup

from mnist_ops.serving.formats import percent
from mnist_ops.serving.line_charts import Axis, LineChart, Series, top_of
from mnist_ops.vision.evaluation.calibration import Reliability
from mnist_ops.vision.models.trained_model import EpochMetrics
from mnist_ops.vision.release.report_data import ReportData

_SPAN = 0.01  # the least that an axis of shares shows
Charts = dict[str, tuple[Markup, str]]


def model_charts(data: ReportData) -> Charts:
    """Each chart with a sentence about it, by its heading."""
    best = next(metrics for metrics in data.history if metrics.step == data.best_step)
    kept = f"epoch {best.epoch}"
    bins = (
        "Accuracy by confidence on the test fold, in bins; a large point has many digits. On the "
        "straight line, 90 % sure is 90 % right."
    )
    return {
        "Loss": (_losses(data, best), f"The weights of {kept} were kept: the vertical line."),
        "Validation accuracy": (
            _accuracies(data, best),
            f"{percent(best.validation_accuracy, 2)} at {kept}, whose weights were kept.",
        ),
        "Reliability": (_reliability(data), bins),
    }


def _losses(data: ReportData, best: EpochMetrics) -> Markup:
    x = _time_axis(data)
    training = [(_time(data, each), each.train_loss) for each in data.history]
    validation = [(_time(data, each), each.validation_nll) for each in data.history]
    last = data.history[-1]
    return LineChart(
        x=x,
        y=Axis("nats", 0.0, top_of([loss for _, loss in training + validation]), 2),
        series=[Series("training", "other", training), Series("validation", "accent", validation)],
        said=f"Loss by {x.name}, at the end {last.train_loss:.3f} on the training fold and "
        f"{last.validation_nll:.3f} on the validation fold",
        mark=_time(data, best),
    ).svg()


def _accuracies(data: ReportData, best: EpochMetrics) -> Markup:
    x = _time_axis(data)
    points = [(_time(data, each), each.validation_accuracy) for each in data.history]
    shares = [share for _, share in points]
    low = min(*shares, 1 - _SPAN)
    return LineChart(
        x=x,
        y=Axis("share", low, 1.0, 3),
        series=[Series("validation", "accent", points)],
        said=f"Accuracy on the validation fold by {x.name}, from {percent(shares[0], 2)} to "
        f"{percent(shares[-1], 2)}",
        mark=_time(data, best),
    ).svg()


def _reliability(data: ReportData) -> Markup:
    return LineChart(
        x=Axis("confidence", 0.0, 1.0, 2),
        y=Axis("accuracy", 0.0, 1.0, 2),
        series=[
            _bins("temperature 1", "other", data.before),
            _bins("calibrated", "accent", data.after),
        ],
        said=f"Reliability diagram; the calibration error is {data.before.error:.4f} at temperature 1 and "
        f"{data.after.error:.4f} after calibration",
        diagonal=True,
    ).svg()


def _bins(name: str, kind: str, bins: Reliability) -> Series:
    """The bins that are not empty, as points whose size shows the number of their examples."""
    rows = zip(bins.confidence, bins.accuracy, bins.counts, strict=True)
    filled = [(x, y, count) for x, y, count in rows if x is not None and y is not None]
    # The accuracy of few examples is mostly chance.
    radii = [1.5 + 1.2 * math.log10(count) for _, _, count in filled]
    return Series(name, kind, [(x, y) for x, y, _ in filled], radii)


def _by_epoch(data: ReportData) -> bool:
    """Whether there was one validation for each epoch."""
    return len({each.epoch for each in data.history}) == len(data.history)


def _time(data: ReportData, metrics: EpochMetrics) -> int:
    return metrics.epoch if _by_epoch(data) else metrics.step


def _time_axis(data: ReportData) -> Axis:
    first, last = _time(data, data.history[0]), _time(data, data.history[-1])
    return Axis("epoch" if _by_epoch(data) else "step", first, max(last, first + 1))
