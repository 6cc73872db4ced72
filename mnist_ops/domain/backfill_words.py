"""The preview of a backfill in words, for the page and the command line."""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from mnist_ops.domain.backfill_estimate import MIN_RUNS, Amount, Estimate
from mnist_ops.domain.backfill_windows import Window
from mnist_ops.domain.quantities import byte_size, number, seconds
from mnist_ops.domain.selection import Reclassify

MAX_ROWS = 100

Row = tuple[str, int, int]


def estimate_facts(estimate: Estimate, max_active_runs: int) -> Iterator[tuple[str, str]]:
    """Names and values of what a backfill is expected to take."""
    if estimate.elapsed_s is None:
        yield "time", "not known: no former run was one of Airflow"
    else:
        yield f"time, {max_active_runs} runs at once", in_words(estimate.elapsed_s, seconds)
    yield "image bytes", in_words(estimate.image_bytes, byte_size)
    yield "sent to S3", in_words(estimate.s3_sent, byte_size)
    yield "received from S3", in_words(estimate.s3_received, byte_size)
    yield "requests to S3", in_words(estimate.s3_requests, lambda value: number(round(value)))
    yield "cost", in_words(estimate.cost, lambda value: f"{value:.6f}") + f" {estimate.currency}"


def estimate_notes(estimate: Estimate | None, past_runs: int, reclassify: Reclassify) -> Iterator[str]:
    """What somebody must know who relies on an estimate, as sentences."""
    if estimate is None:
        yield (
            f"Time, bytes and cost cannot be estimated: that needs {MIN_RUNS} finished runs with records. "
            f"There are {past_runs}."
        )
        return
    again = reclassify is not Reclassify.NEVER
    kind = f" that {'also' if again else 'only'} took {'predicted' if again else 'waiting'} records"
    yield f"Estimated from the {estimate.runs} newest runs{kind if estimate.like else ''}."
    if not estimate.like:
        yield (
            "None of them took predicted records again. Servers send images again only if they have changed, "
            "so it may be fewer bytes."
            if again
            else "Most of them took predicted records again, whose images servers send only if they have "
            "changed. So it may be more bytes."
        )
    yield "The time is right if the workers have room for that many runs at once."


def in_words(amount: Amount, unit: Callable[[float], str]) -> str:
    """An amount with its spread, such as `about 12 s (9.0 s to 15 s)`; without it where there is none."""
    about, low, high = (unit(value) for value in (amount.about, amount.low, amount.high))
    return f"about {about}" if low == high == about else f"about {about} ({low} to {high})"


def window_rows(windows: Sequence[tuple[Window, int]]) -> tuple[str, list[Row]]:
    """Windows as rows: each alone; or else, if they are over `MAX_ROWS`, summed by day, month or year.

    Args:
        windows: each with its number of records, oldest first.

    Returns:
        What a row is: window, day, month or year; and for each its name, its runs and its records.
    """
    for kind, form in (("window", "%Y-%m-%d %H:%M"), ("day", "%Y-%m-%d"), ("month", "%Y-%m")):
        rows = _summed(windows, form)
        if len(rows) <= MAX_ROWS:
            return kind, rows
    return "year", _summed(windows, "%Y")


def _summed(windows: Sequence[tuple[Window, int]], form: str) -> list[Row]:
    """Windows whose starts look alike in a form, as one row each."""
    rows = []
    for name, group in groupby(windows, key=lambda pair: f"{pair[0].since:{form}}"):
        counts = [records for _, records in group]
        rows.append((name, len(counts), sum(counts)))
    return rows
