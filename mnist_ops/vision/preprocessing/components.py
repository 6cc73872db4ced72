"""Find the digit among the connected components of the ink; small or distant components are specks."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_GRID = 32  # cells along the longer side; connected components are found on this coarse grid
_PASSES = 4  # each on what the pass before kept, in finer cells
# A component belongs to the digit if its share of the largest component's ink is at least _MIN_SHARE,
# or at least _MIN_SHARE_NEAR if its gap to the digit is at most _NEAR of the digit's longer side.
_MIN_SHARE, _MIN_SHARE_NEAR, _NEAR = 0.3, 0.04, 0.25


def find_digit(ink: NDArray[np.uint8]) -> tuple[slice, slice, NDArray[np.bool_]]:
    """Where the digit is: its rows, its columns, and a mask (h, w) of the pixels there that are no specks.

    Args:
        ink: uint8 (H, W), 0 where there is none; at least one pixel is not 0.
    """
    top = left = 0
    mask = np.ones(ink.shape, bool)
    for _ in range(_PASSES):
        rows, columns = bounding_box(ink)
        ink, mask = ink[rows, columns], mask[rows, columns]
        top, left = top + rows.start, left + columns.start
        side = -(-max(ink.shape) // _GRID)
        cells = _without_specks(_cell_sums(ink, side))
        if cells is None:
            break
        pixels = cells.repeat(side, axis=0).repeat(side, axis=1)[: ink.shape[0], : ink.shape[1]]
        mask, ink = mask & pixels, ink * pixels
    return slice(top, top + ink.shape[0]), slice(left, left + ink.shape[1]), mask


def bounding_box(ink: NDArray[np.uint8]) -> tuple[slice, slice]:
    """The rows and columns from the first to the last pixel that is not 0."""
    rows, columns = (np.flatnonzero(ink.any(axis=axis)) for axis in (1, 0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _cell_sums(ink: NDArray[np.uint8], side: int) -> NDArray[np.int64]:
    """The sum of the ink in each square cell of `side` pixels."""
    starts = [np.arange(0, length, side) for length in ink.shape]
    rows: NDArray[np.int64] = np.add.reduceat(ink, starts[0], axis=0, dtype=np.int64)
    sums: NDArray[np.int64] = np.add.reduceat(rows, starts[1], axis=1)
    return sums


def _without_specks(sums: NDArray[np.int64]) -> NDArray[np.bool_] | None:
    """The digit's cells and their neighbours, for its soft edges; None if no component is a speck."""
    components = sorted(
        ((int(sums[cells].sum()), cells) for cells in _connected_components(sums)),
        key=lambda component: -component[0],
    )
    largest, first = components[0]
    kept = np.zeros(sums.shape, bool)
    low, high = np.stack(first).min(axis=1), np.stack(first).max(axis=1)  # the digit's corners so far
    dropped = False
    for weight, cells in components:
        own_low, own_high = np.stack(cells).min(axis=1), np.stack(cells).max(axis=1)
        gap = int(np.maximum(own_low - high, low - own_high).max()) - 1
        near = gap <= _NEAR * int((high - low).max() + 1)
        if weight >= largest * (_MIN_SHARE_NEAR if near else _MIN_SHARE):
            kept[cells] = True
            low, high = np.minimum(low, own_low), np.maximum(high, own_high)
        else:
            dropped = True
    return _dilated(kept) if dropped else None


def _dilated(cells: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Each cell with its eight neighbours: none of these belongs to another component."""
    padded = np.pad(cells, 1)
    rows = padded[:-2] | padded[1:-1] | padded[2:]
    return rows[:, :-2] | rows[:, 1:-1] | rows[:, 2:]


def _connected_components(sums: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """The rows and columns of the cells with ink, by component; cells that share a corner are connected."""
    remaining: set[tuple[int, int]] = {(row, column) for row, column in np.argwhere(sums).tolist()}
    while remaining:
        component = [remaining.pop()]
        for row, column in component:  # it grows during the loop
            around = {(row + down, column + right) for down in (-1, 0, 1) for right in (-1, 0, 1)} & remaining
            remaining -= around
            component.extend(around)
        rows, columns = np.array(component).T
        yield rows, columns
