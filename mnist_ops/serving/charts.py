"""Charts as inline SVG; the style sheet gives the colours, by class.

A chart is an image with a text alternative. Its shapes use attributes only: the page allows no inline style.
"""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from mnist_ops.serving.formats import percent

_BAR_HEIGHT, _BAR_GAP = 14, 4  # units of the view box, about pixels
_LETTER_WIDTH, _BAR_WIDTH, _FIGURE_WIDTH = 7, 120, 56  # a letter of the bold type
_SHORTEST_NAME = 7  # characters that there is room for at least


def probability_bars(probabilities: Mapping[str, float], predicted: str) -> Markup:
    """A bar for the probability of each label, the predicted one marked by colour and bold type.

    Args:
        probabilities: by the label's name, 0 to 1, in the order of the label table.
        predicted: the name of the label that was predicted.
    """
    names_width = _LETTER_WIDTH * (max([_SHORTEST_NAME, *map(len, probabilities)]) + 1)
    rows = [
        _probability_row(position, name, share, left=names_width, chosen=name == predicted)
        for position, (name, share) in enumerate(probabilities.items())
    ]
    said = ", ".join(f"{name} {percent(share)}" for name, share in probabilities.items())
    height = len(rows) * (_BAR_HEIGHT + _BAR_GAP)
    return _svg("chart bars", (names_width + _BAR_WIDTH + _FIGURE_WIDTH, height), said, rows)


def probability_columns(probabilities: Mapping[str, float], predicted: str) -> Markup:
    """A small column for the probability of each label, as a gallery shows them; the predicted one marked.

    Args:
        probabilities: by the label's name, 0 to 1, in the order of the label table.
        predicted: the name of the label that was predicted.
    """
    shapes = []
    for position, (name, share) in enumerate(probabilities.items()):
        column = Markup(
            '<g class="{kind}"><title>{name} {percent}</title>'
            '<rect class="track" x="{left}" y="0" width="8" height="28"/>'
            '<rect class="bar" x="{left}" y="{top:.1f}" width="8" height="{height:.1f}"/></g>'
        )
        shapes.append(
            column.format(
                kind="chosen" if name == predicted else "other",
                name=name,
                percent=percent(share),
                left=position * 10 + 1,
                top=28 * (1 - share),
                height=28 * share,
            )
        )
    likely = sorted(probabilities, key=lambda name: -probabilities[name])[:3]
    said = "Likeliest: " + ", ".join(f"{name} {percent(probabilities[name])}" for name in likely)
    return _svg("chart columns10", (len(shapes) * 10, 28), said, shapes)


def share_bar(shares: Sequence[tuple[str, float]], said: str) -> Markup:
    """One bar divided by shares.

    Args:
        shares: the class of each piece, such as "good" or "bad", and its share of the whole, 0 to 1.
        said: the text alternative.
    """
    pieces, start = [], 0.0
    for kind, share in shares:
        piece = Markup('<rect class="{}" x="{:.2f}" y="0" width="{:.2f}" height="8"/>')
        pieces.append(piece.format(kind, 100 * start, 100 * share))
        start += share
    return _svg("chart share", (100, 8), said, pieces, stretched=True)


def _probability_row(position: int, name: str, share: float, *, left: int, chosen: bool) -> Markup:
    top = position * (_BAR_HEIGHT + _BAR_GAP)
    base = top + _BAR_HEIGHT - 3
    row = Markup(
        '<g class="{kind}"><text x="{end}" y="{base}" text-anchor="end">{name}</text>'
        '<rect class="track" x="{left}" y="{top}" width="{whole}" height="{height}" rx="2"/>'
        '<rect class="bar" x="{left}" y="{top}" width="{width:.1f}" height="{height}" rx="2"/>'
        '<text x="{figure}" y="{base}">{share}</text></g>'
    )
    return row.format(
        kind="chosen" if chosen else "other",
        end=left - 6,
        base=base,
        name=name,
        left=left,
        top=top,
        whole=_BAR_WIDTH,
        height=_BAR_HEIGHT,
        width=_BAR_WIDTH * share,
        figure=left + _BAR_WIDTH + 6,
        share=percent(share),
    )


def _svg(
    kind: str, size: tuple[int, int], said: str, shapes: Sequence[Markup], *, stretched: bool = False
) -> Markup:
    frame = Markup('<svg class="{}" viewBox="0 0 {} {}" role="img" aria-label="{}"{}>{}</svg>')
    ratio = Markup(' preserveAspectRatio="none"') if stretched else ""
    return frame.format(kind, *size, said, ratio, Markup().join(shapes))
