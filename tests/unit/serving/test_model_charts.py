"""The charts of a model: every point is inside of the picture, also where there is little to draw."""

import re
from dataclasses import replace

from mnist_ops.serving.line_charts import Axis, LineChart, Series
from mnist_ops.serving.model_charts import model_charts
from mnist_ops.vision.evaluation.calibration import Reliability
from mnist_ops.vision.models.trained_model import EpochMetrics
from mnist_ops.vision.release.report_data import ReportData

BINS = Reliability((0.0, 0.5, 1.0), (0, 7), (None, 0.9), (None, 1.0), (0.0, 0.1))
ONE = ReportData(10, (EpochMetrics(1, 10, 0.0, 1.0, 0.0),), BINS, BINS, ())


def places(svg: str) -> list[tuple[float, float]]:
    """The points of the lines in a chart."""
    paths = re.findall(r'<polyline class="line \w+" points="([^"]*)"', svg)
    pairs = (pair.split(",") for path in paths for pair in path.split())
    return [(float(x), float(y)) for x, y in pairs]


def test_a_training_of_one_epoch_without_a_mistake_is_drawn() -> None:
    """No axis has the length 0."""
    charts = {name: str(chart) for name, (chart, _) in model_charts(ONE).items()}
    assert list(charts) == ["Loss", "Validation accuracy", "Reliability"]
    for svg in charts.values():
        assert all(0 <= x <= 440 and 0 <= y <= 240 for x, y in places(svg))


def test_several_validations_in_an_epoch_are_drawn_by_step() -> None:
    """Else their points would have one x."""
    history = tuple(EpochMetrics(1, step, 1.0 / step, 0.9, 0.5) for step in (10, 20, 30))
    chart, _ = model_charts(replace(ONE, history=history))["Validation accuracy"]
    assert ">step</text>" in chart
    assert len({x for x, _ in places(chart)}) >= 3


def test_a_larger_bin_has_a_larger_point() -> None:
    """The accuracy of few digits is mostly chance."""
    bins = replace(BINS, counts=(2, 900), confidence=(0.4, 0.9), accuracy=(0.5, 0.9))
    chart, _ = model_charts(replace(ONE, after=bins))["Reliability"]
    small, large = (float(radius) for radius in re.findall(r'<circle.*? r="([\d.]+)"', chart)[:2])
    assert small < large


def test_names_in_a_chart_are_text() -> None:
    """Labels of the axes may come from outside."""
    axis = Axis("<b>", 0.0, 1.0)
    svg = LineChart(axis, axis, [Series('"><script>', "accent", [(0, 1)])], said='" onload="x').svg()
    assert "<b>" not in svg
    assert "<script>" not in svg
    assert 'aria-label="&#34; onload=&#34;x"' in svg
