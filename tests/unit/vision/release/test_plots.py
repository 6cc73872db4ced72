"""The plots show the measured values, point by point."""

import io

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from mnist_ops.local.sample_digits import load
from mnist_ops.vision.config.schema import TrainingConfig
from mnist_ops.vision.data.examples import Examples
from mnist_ops.vision.evaluation.calibration import reliability
from mnist_ops.vision.evaluation.metrics import evaluate
from mnist_ops.vision.models.trained_model import EpochMetrics, TrainedModel
from mnist_ops.vision.release import plots

NAMES = tuple("abcdefghij")
PROBABILITIES = np.random.default_rng(0).dirichlet(np.full(10, 0.3), 200)
LABELS = np.random.default_rng(1).integers(0, 10, 200)


def model(*history: EpochMetrics, best: int = 1) -> TrainedModel:
    """Return a trained model with that history."""
    return TrainedModel(TrainingConfig(), b"", history, best, parameters=0)


def texts(figure: Figure) -> list[str]:
    """Return all texts and titles in a figure's axes."""
    return [text.get_text() for axes in figure.axes for text in (*axes.texts, axes.title)]


@pytest.fixture
def history() -> tuple[EpochMetrics, ...]:
    """Three epochs of 10 steps."""
    return tuple(EpochMetrics(e, 10 * e, 1 / e, 1 - 0.1 / e, 0.4 / e) for e in (1, 2, 3))


def test_the_learning_curves_equal_the_history(history: tuple[EpochMetrics, ...]) -> None:
    """Each point is a validation."""
    losses, accuracies = plots.learning_curves(model(*history, best=20)).axes
    drawn = {line.get_label(): line.get_xydata().tolist() for line in losses.lines}
    assert drawn["training"] == [[m.epoch, m.train_loss] for m in history]
    assert drawn["validation"] == [[m.epoch, m.validation_nll] for m in history]
    assert accuracies.lines[0].get_xydata().tolist() == [[m.epoch, m.validation_accuracy] for m in history]


def test_the_epoch_whose_weights_were_kept_is_marked(history: tuple[EpochMetrics, ...]) -> None:
    """On both plots."""
    for axes in plots.learning_curves(model(*history, best=20)).axes:
        assert [line.get_xdata()[0] for line in axes.lines if line.get_label() == "kept"] == [2]


def test_several_validations_an_epoch_are_drawn_by_step() -> None:
    """Two points at the same epoch would overlap."""
    history = [EpochMetrics(1, 5, 2.0, 0.5, 1.0), EpochMetrics(1, 10, 1.0, 0.6, 0.9)]
    losses, _ = plots.learning_curves(model(*history, best=10)).axes
    assert losses.lines[0].get_xdata().tolist() == [5, 10]
    assert losses.get_xlabel() == "step"


def test_the_confusion_matrix_writes_every_count() -> None:
    """A dot means zero."""
    evaluation = evaluate(PROBABILITIES, LABELS)
    written = [text for text in texts(plots.confusion_matrix(evaluation, NAMES)) if text]
    assert [0 if text == "·" else int(text) for text in written] == [
        count for row in evaluation.confusion for count in row
    ]


def test_a_matrix_without_mistakes_can_be_drawn() -> None:
    """The colour scale of mistakes has no values then."""
    figure = plots.confusion_matrix(evaluate(np.eye(10), np.arange(10)), NAMES)
    assert plots.png(figure).startswith(b"\x89PNG")


def test_the_reliability_diagram_shows_the_bins_before_and_after() -> None:
    """Dots above, counts as bars below."""
    before, after = reliability(PROBABILITIES, LABELS), reliability(PROBABILITIES**0.5, LABELS)
    axes, counts = plots.reliability_diagram(before, after).axes
    for bins, dots in zip((before, after), axes.collections, strict=True):
        points = [
            list(point) for point in zip(bins.confidence, bins.accuracy, strict=True) if None not in point
        ]
        np.testing.assert_allclose(dots.get_offsets(), points)
        assert dots.get_label().endswith(f"ECE {bins.error:.4f}")
    drawn = [[bar.get_height() for bar in bars] for bars in counts.containers]
    assert drawn == [list(before.counts), list(after.counts)]


def test_the_worst_mistakes_are_those_with_the_highest_loss() -> None:
    """Highest first."""
    worst = plots.worst_mistakes(PROBABILITIES, LABELS, count=5)
    losses = -np.log(PROBABILITIES[np.arange(200), LABELS])
    assert [losses[mistake.index] for mistake in worst] == sorted(losses, reverse=True)[:5]
    assert all(mistake.given == LABELS[mistake.index] for mistake in worst)
    assert [mistake.predicted for mistake in worst] == [PROBABILITIES[m.index].argmax() for m in worst]


def test_a_worst_example_has_its_label_and_its_prediction() -> None:
    """Above its own image."""
    images, labels = (array[:200] for array in load("test"))
    mistakes = [plots.Mistake(7, 9, 4), plots.Mistake(3, 0, 0)]
    figure = plots.worst_examples(Examples(images, labels), mistakes, NAMES)
    assert [text for text in texts(figure) if text] == ["j\ntaken for e", "a\nbut unsure"]
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), images[7])


@pytest.mark.parametrize("label", ["$x^{", "七", "<script>", "\\frac", "a" * 64])
def test_any_label_can_be_drawn(label: str) -> None:
    """It is not read as a formula or as markup, and the font may lack its characters."""
    names = (label, *NAMES[1:])
    images, labels = (array[:10] for array in load("test"))
    mistakes = [plots.Mistake(0, 0, 1)]
    for figure in (
        plots.worst_examples(Examples(images, labels), mistakes, names),
        plots.confusion_matrix(evaluate(PROBABILITIES, LABELS), names),
    ):
        assert plots.png(figure).startswith(b"\x89PNG")


def test_the_same_figure_gives_the_same_png(history: tuple[EpochMetrics, ...]) -> None:
    """A repeated release writes the same bytes."""
    first, second = (plots.png(plots.learning_curves(model(*history, best=20))) for _ in range(2))
    assert first == second
    assert Image.open(io.BytesIO(first)).width > 1000


def test_drawing_registers_no_figure_with_pyplot(history: tuple[EpochMetrics, ...]) -> None:
    """Pyplot would keep every figure in memory."""
    figure = plots.learning_curves(model(*history, best=20))
    plots.png(figure)
    assert isinstance(figure.canvas, FigureCanvasAgg)
    assert figure.canvas.manager is None
