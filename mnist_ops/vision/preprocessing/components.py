"""Find the digit among what was left on the paper: specks of dust are no part of it."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_CELLS = 32  # of the longer side, in which the pieces of a picture are told apart
_LOOKS = 4  # each at what the one before left, in finer cells
# Shares of the largest piece: a piece of this much ink belongs to the digit wherever it lies, and one of
# this much where the gap to the digit is no wider than this share of its longer side.
_PIECE, _SCRAP, _NEAR = 0.3, 0.04, 0.25

Cell = tuple[int, int]


def find_digit(ink: NDArray[np.uint8]) -> tuple[slice, slice, NDArray[np.bool_]]:
    """Where the digit is: its rows, its columns, and which of the pixels there (h, w) are not dust.

    Args:
        ink: uint8 (H, W), 0 where there is none; somewhere there is some.
    """
    top = left = 0
    clean = np.ones(ink.shape, bool)
    for _ in range(_LOOKS):
        rows, columns = box(ink)
        ink, clean = ink[rows, columns], clean[rows, columns]
        top, left = top + rows.start, left + columns.start
        side = -(-max(ink.shape) // _CELLS)
        cells = _without_specks(_mass(ink, side))
        if cells is None:
            break
        pixels = cells.repeat(side, axis=0).repeat(side, axis=1)[: ink.shape[0], : ink.shape[1]]
        clean, ink = clean & pixels, ink * pixels
    return slice(top, top + ink.shape[0]), slice(left, left + ink.shape[1]), clean


def box(ink: NDArray[np.uint8]) -> tuple[slice, slice]:
    """The rows and columns from the first to the last pixel that is not 0."""
    rows, columns = (np.flatnonzero(ink.any(axis=axis)) for axis in (1, 0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _mass(ink: NDArray[np.uint8], side: int) -> NDArray[np.int64]:
    """The ink in square cells of `side` pixels."""
    starts = [np.arange(0, length, side) for length in ink.shape]
    rows: NDArray[np.int64] = np.add.reduceat(ink, starts[0], axis=0, dtype=np.int64)
    mass: NDArray[np.int64] = np.add.reduceat(rows, starts[1], axis=1)
    return mass


def _without_specks(mass: NDArray[np.int64]) -> NDArray[np.bool_] | None:
    """The cells of the digit and those around it, for its soft edges; None where there are no others."""
    pieces = sorted(((int(mass[cells].sum()), cells) for cells in _pieces(mass)), key=lambda piece: -piece[0])
    kept = np.zeros(mass.shape, bool)
    first = np.stack(pieces[0][1])
    low, high = first.min(axis=1), first.max(axis=1)
    dropped = False
    for weight, cells in pieces:
        own_low, own_high = np.stack(cells).min(axis=1), np.stack(cells).max(axis=1)
        gap = int(np.maximum(own_low - high, low - own_high).max()) - 1
        near = gap <= _NEAR * int((high - low).max() + 1)
        if weight >= pieces[0][0] * (_SCRAP if near else _PIECE):
            kept[cells] = True
            low, high = np.minimum(low, own_low), np.maximum(high, own_high)
        else:
            dropped = True
    return _grown(kept) if dropped else None


def _grown(cells: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """With the eight neighbours of each cell: no other piece is as near, or it would be the same one."""
    padded = np.pad(cells, 1)
    rows = padded[:-2] | padded[1:-1] | padded[2:]
    return rows[:, :-2] | rows[:, 1:-1] | rows[:, 2:]


def _pieces(mass: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """The cells that hold ink, as rows and columns, in groups that touch, be it at a corner."""
    left: set[Cell] = {(row, column) for row, column in np.argwhere(mass).tolist()}
    while left:
        piece = [left.pop()]
        for row, column in piece:  # which grows meanwhile
            around = {(row + down, column + right) for down in (-1, 0, 1) for right in (-1, 0, 1)} & left
            left -= around
            piece.extend(around)
        rows, columns = np.array(piece).T
        yield rows, columns
