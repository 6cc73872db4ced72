"""Charts with two axes as inline SVG: lines by epoch, and points against a diagonal."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

_WIDTH, _HEIGHT = 440, 240  # of the view box, about pixels
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 12, 26, 36  # margins for figures, names and the legend
_TICKS = 4
_RADIUS = 3.0


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis.

    Attributes:
        name: what it shows, with the unit.
        low: the value at its start.
        high: the value at its end, over `low`.
        decimals: of its figures.
    """

    name: str
    low: float
    high: float
    decimals: int = 0


@dataclass(frozen=True, slots=True)
class Series:
    """A line through points.

    Attributes:
        name: for the legend.
        kind: the class that colours it: accent or other.
        points: (x, y), by x.
        radii: the size of each point; empty for one size.
    """

    name: str
    kind: str
    points: Sequence[tuple[float, float]]
    radii: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class LineChart:
    """A chart of lines.

    Attributes:
        x: the horizontal axis.
        y: the vertical axis.
        series: the lines, at most two, which differ by colour, dashes and the shape of their points.
        said: the text alternative.
        mark: an x with a vertical line; None for none.
        diagonal: whether there is a line from the lower left to the upper right corner.
    """

    x: Axis
    y: Axis
    series: Sequence[Series]
    said: str
    mark: float | None = None
    diagonal: bool = False

    def svg(self) -> Markup:
        """The chart as an SVG element."""
        shapes = [*self._grid(), *self._references()]
        for position, series in enumerate(self.series):
            shapes += self._line(series)
            shapes.append(_legend(position, series))
        frame = Markup('<svg class="chart lines" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>')
        return frame.format(_WIDTH, _HEIGHT, self.said, Markup().join(shapes))

    def _at(self, x: float, y: float) -> tuple[float, float]:
        right, up = (
            (value - axis.low) / (axis.high - axis.low) for value, axis in ((x, self.x), (y, self.y))
        )
        return (
            round(_LEFT + right * (_WIDTH - _LEFT - _RIGHT), 1),
            round(_HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM), 1),
        )

    def _grid(self) -> list[Markup]:
        """Both axes' figures and names, and a horizontal line at each figure."""
        line = Markup('<line class="grid" x1="{}" y1="{}" x2="{}" y2="{}"/>')
        text = Markup('<text x="{}" y="{}" text-anchor="{}">{}</text>')
        shapes = []
        for value in _figures(self.y):
            x, y = self._at(self.x.low, value)
            shapes.append(line.format(x, y, _WIDTH - _RIGHT, y))
            shapes.append(text.format(x - 6, y + 4, "end", f"{value:.{self.y.decimals}f}"))
        for value in _figures(self.x):
            x, y = self._at(value, self.y.low)
            shapes.append(text.format(x, y + 14, "middle", f"{value:.{self.x.decimals}f}"))
        shapes.append(text.format((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 6, "middle", self.x.name))
        shapes.append(text.format(4, 12, "start", self.y.name))
        return shapes

    def _references(self) -> list[Markup]:
        ends = []
        if self.mark is not None:
            ends.append((self._at(self.mark, self.y.low), self._at(self.mark, self.y.high)))
        if self.diagonal:
            ends.append((self._at(self.x.low, self.y.low), self._at(self.x.high, self.y.high)))
        line = Markup('<line class="reference" x1="{}" y1="{}" x2="{}" y2="{}"/>')
        return [line.format(*start, *end) for start, end in ends]

    def _line(self, series: Series) -> list[Markup]:
        places = [self._at(x, y) for x, y in series.points]
        path = " ".join(f"{x},{y}" for x, y in places)
        line = Markup('<polyline class="line {}" points="{}"/>').format(series.kind, path)
        radii = series.radii or [_RADIUS] * len(places)
        points = (_point(series.kind, *place, radius) for place, radius in zip(places, radii, strict=True))
        return [line, *points]


def top_of(values: Sequence[float]) -> float:
    """The end of an axis that holds all values from 0 on, with some space."""
    return 1.05 * max(values, default=0.0) or 1.0


def _figures(axis: Axis) -> list[float]:
    """The figures at an axis, from its start to its end, each once."""
    step = (axis.high - axis.low) / _TICKS
    figures = [round(axis.low + number * step, axis.decimals) for number in range(_TICKS + 1)]
    return [value for value in dict.fromkeys(figures) if axis.low <= value <= axis.high]


def _point(kind: str, x: float, y: float, radius: float = _RADIUS) -> Markup:
    """A disc, or a square for the second kind, so that colour does not tell them apart alone."""
    if kind == "accent":
        return Markup('<circle class="accent" cx="{}" cy="{}" r="{:.1f}"/>').format(x, y, radius)
    return Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>').format(
        kind, x - radius, y - radius, 2 * radius, 2 * radius
    )


def _legend(position: int, series: Series) -> Markup:
    x = _WIDTH / 2 - 60 + 130 * position
    sample = Markup('<polyline class="line {}" points="{},8 {},8"/>').format(series.kind, x, x + 22)
    text = Markup('<text x="{}" y="12">{}</text>').format(x + 28, series.name)
    return Markup().join([sample, _point(series.kind, x + 11, 8), text])
