"""Plots of a model as matplotlib figures and PNG bytes, without matplotlib's global state."""

import io
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from mnist_ops.vision.data.examples import Examples
from mnist_ops.vision.evaluation.calibration import Reliability, require_labelled
from mnist_ops.vision.evaluation.metrics import Evaluation
from mnist_ops.vision.models.trained_model import TrainedModel

WORST = 32  # examples shown
_INK, _PALE, _GRID = "#1f2933", "#7b8794", "#e4e7eb"
_BLUE, _ORANGE, _GREY = "#2563eb", "#d97706", "#9aa5b1"
_HITS = LinearSegmentedColormap.from_list("hits", ["#ffffff", "#93b4f5"])
_MISSES = LinearSegmentedColormap.from_list("misses", ["#ffffff", "#f08c5a"])
_DPI = 144
_LONGEST = 9  # characters of a label that fit above an image or beside a row


@dataclass(frozen=True, slots=True)
class Mistake:
    """An example with a high loss.

    Attributes:
        index: the index of the example in its fold.
        given: the class of its label.
        predicted: the most probable class.
    """

    index: int
    given: int
    predicted: int


def worst_mistakes(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], count: int = WORST
) -> list[Mistake]:
    """Return the examples with the highest loss, highest first; some may be classified correctly.

    Args:
        probabilities: float (N, C).
        labels: integers (N,).
        count: how many at most.

    Raises:
        Permanent: see `require_labelled`.
    """
    require_labelled(probabilities, labels)
    own = probabilities[np.arange(len(labels)), labels]
    predicted = probabilities.argmax(axis=1)
    worst = np.argsort(own, kind="stable")[:count]
    return [Mistake(int(row), int(labels[row]), int(predicted[row])) for row in worst]


def png(figure: Figure) -> bytes:
    """Render a figure as PNG: the same bytes for the same figure and version of matplotlib."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # the font lacks a character of a label
        FigureCanvasAgg(figure).print_png(  # type: ignore[no-untyped-call]
            buffer, metadata={"Software": None}
        )
    return buffer.getvalue()


def learning_curves(model: TrainedModel) -> Figure:
    """Plot the loss on the training fold, and accuracy and NLL on the validation fold, by epoch.

    The x axis counts steps if there was more than one validation per epoch.
    """
    history = model.history
    by_epoch = len({metrics.epoch for metrics in history}) == len(history)
    x = [metrics.epoch if by_epoch else metrics.step for metrics in history]
    best = model.best.epoch if by_epoch else model.best.step
    figure = _figure((9.6, 3.4))
    losses, accuracies = figure.subplots(1, 2)
    _titled(losses, "Loss", "epoch" if by_epoch else "step", "nats")
    losses.plot(x, [m.train_loss for m in history], "o-", color=_ORANGE, label="training", ms=4)
    losses.plot(x, [m.validation_nll for m in history], "o-", color=_BLUE, label="validation", ms=4)
    losses.set_ylim(bottom=0)
    _titled(accuracies, "Validation accuracy", "epoch" if by_epoch else "step", "share")
    accuracies.plot(x, [m.validation_accuracy for m in history], "o-", color=_BLUE, ms=4)
    for axes in (losses, accuracies):
        axes.axvline(best, color=_PALE, linestyle=":", linewidth=1.2, label="kept")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    losses.legend(frameon=False, fontsize=9, labelcolor=_INK)
    return figure


def confusion_matrix(evaluation: Evaluation, labels: Sequence[str]) -> Figure:
    """Plot how often each class (row) was predicted as each class (column)."""
    counts = np.array(evaluation.confusion)
    hits = np.eye(len(counts), dtype=bool)
    figure = _figure((5.4, 5.0))
    axes = figure.subplots()
    axes.imshow(np.ma.masked_array(counts, ~hits), cmap=_HITS, vmin=0)
    axes.imshow(np.ma.masked_array(counts, hits), cmap=_MISSES, vmin=0, vmax=max(counts[~hits].max(), 1))
    for (row, column), count in np.ndenumerate(counts):
        text, color = (str(count), _INK) if count else ("·", _GREY)
        axes.text(column, row, text, ha="center", va="center", fontsize=9, color=color)
    names = [_short(label) for label in labels]
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", parse_math=False)
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.tick_params(length=0, labelsize=9)
    axes.set_xlabel("predicted", color=_PALE)
    axes.set_ylabel("label", color=_PALE)
    axes.spines[:].set_visible(False)
    return figure


def reliability_diagram(before: Reliability, after: Reliability) -> Figure:
    """Plot accuracy against confidence by bin, before and after temperature scaling, above the bin sizes."""
    figure = _figure((5.4, 5.2))
    axes, counts = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    _titled(axes, "", "", "accuracy")
    _titled(counts, "", "confidence", "examples")
    axes.plot([0, 1], [0, 1], color=_GREY, linestyle="--", linewidth=1, label="confidence = accuracy")
    width = 0.42 / len(before.counts)
    for bins, color, name, shift in (
        (before, _ORANGE, "before", -width / 2),
        (after, _BLUE, "after temperature", width / 2),
    ):
        label = f"{name}, ECE {bins.error:.4f}"
        confidence, accuracy = _filled(bins.confidence), _filled(bins.accuracy)
        # The size of a dot shows its number of examples: the accuracy of few examples is mostly chance.
        sizes = [8 + 14 * math.log10(count) for count in bins.counts if count]
        axes.plot(confidence, accuracy, color=color, linewidth=1, alpha=0.45)
        axes.scatter(confidence, accuracy, s=sizes, color=color, label=label, zorder=3, clip_on=False)
        middles = (np.array(bins.edges[:-1]) + np.array(bins.edges[1:])) / 2
        counts.bar(middles + shift, bins.counts, width=width, color=color)
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.02, 1.02)
    counts.set_yscale("log")
    counts.set_ylim(bottom=0.7)
    counts.minorticks_off()
    axes.legend(frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, labelcolor=_INK)
    return figure


def worst_examples(examples: Examples, mistakes: Sequence[Mistake], labels: Sequence[str]) -> Figure:
    """Draw the images of the worst mistakes, each with its label and its prediction."""
    columns = 8
    rows = max(-(-len(mistakes) // columns), 1)
    figure = _figure((9.6, 1.62 * rows))
    cells = figure.subplots(rows, columns, squeeze=False).ravel()
    for cell in cells:
        cell.axis("off")
    for cell, mistake in zip(cells, mistakes, strict=False):
        cell.imshow(examples.images[mistake.index], cmap="gray_r", vmin=0, vmax=255)
        correct = mistake.given == mistake.predicted
        given, predicted = _short(labels[mistake.given]), _short(labels[mistake.predicted])
        text = f"{given}\nbut unsure" if correct else f"{given}\ntaken for {predicted}"
        color = _INK if correct else "#b44d12"
        cell.set_title(text, fontsize=8.5, color=color, pad=3, parse_math=False)
    return figure


def _figure(inches: tuple[float, float]) -> Figure:
    return Figure(figsize=inches, dpi=_DPI, layout="constrained", facecolor="white")


def _titled(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, color=_INK, fontweight="bold")
    axes.set_xlabel(x, color=_PALE)
    axes.set_ylabel(y, color=_PALE)
    axes.tick_params(labelsize=9, colors=_PALE, length=0)
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(_GRID)


def _filled(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _short(label: str) -> str:
    return label if len(label) <= _LONGEST else f"{label[: _LONGEST - 1]}…"
