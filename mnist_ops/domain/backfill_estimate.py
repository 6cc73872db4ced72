"""What a backfill is expected to take, from the ledgers of the runs before it.

A run has work that every run has, and work for each record. For each quantity (seconds, bytes, requests,
cost) both are fitted to former runs. The sum over the backfill's windows is the estimate, and how far former
runs were from the fit is its spread.
"""

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from statistics import fmean, median, quantiles
from typing import Any

from mnist_ops.domain.keys import Generation, is_of_cli
from mnist_ops.domain.prices import Prices
from mnist_ops.domain.selection import Reclassify
from mnist_ops.domain.stages import STEPS, StageReport

# An estimate needs this many runs with records.
MIN_RUNS = 3
# What no ledger sees of a run in Airflow: the time before its snapshot, and that after its ledger. On the
# embedded stack these are at least 3 s and 1 s.
UNSEEN_S = 4.0
_FITTING_ROUNDS = 8
# A run waited for a person or for a retry if Airflow's share of its time is this many times the usual one.
_WAITED = 4.0

Quantity = Callable[["PastRun"], float]


@dataclass(frozen=True, slots=True)
class PastRun:
    """What a finished run took, by its ledger.

    Attributes:
        records: the number of its records.
        reclassify: which records it took besides the waiting ones.
        elapsed_s: from its selection to its ledger; None for a run of the command line.
        stages: the reports of its steps, by step.
    """

    records: int
    reclassify: Reclassify
    elapsed_s: float | None
    stages: Mapping[str, StageReport]

    @property
    def work(self) -> StageReport:
        """The reports of all steps, summed."""
        return sum(self.stages.values(), StageReport("run"))


@dataclass(frozen=True, slots=True)
class Amount:
    """An estimated quantity.

    Attributes:
        about: the most likely value.
        low: if the runs take as little as one in ten former runs took.
        high: if they take as much as one in ten former runs took.
    """

    about: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a backfill is expected to take.

    Attributes:
        runs: the number of former runs with records that it comes from.
        like: whether they reclassified as the backfill does, or like it did not.
        image_bytes: bytes of images that the image servers send.
        s3_requests: requests to S3.
        s3_sent: bytes sent to S3.
        s3_received: bytes received from S3.
        stage_seconds: task-seconds by step.
        elapsed_s: from the start of the first run to the end of the last one; None if no former run was one
            of Airflow.
        cost: in `currency`; what it covers is said at `Prices.cost`.
        currency: a code of ISO 4217.
    """

    runs: int
    like: bool
    image_bytes: Amount
    s3_requests: Amount
    s3_sent: Amount
    s3_received: Amount
    stage_seconds: Mapping[str, Amount]
    elapsed_s: Amount | None
    cost: Amount
    currency: str


def past_runs(ledgers: Iterable[Mapping[str, Any]]) -> list[PastRun]:
    """The runs of ledgers, without those that were over their failure budget or did not add up."""
    return [
        _past_run(ledger) for ledger in ledgers if not (ledger.get("over_budget") or ledger.get("imbalance"))
    ]


def estimate(
    runs: Sequence[PastRun],
    windows: Sequence[int],
    *,
    reclassify: Reclassify,
    max_active_runs: int,
    prices: Prices,
) -> Estimate | None:
    """Estimate a backfill; None if fewer than `MIN_RUNS` former runs had records.

    Runs with the same kind of selection count, if there are enough: a run that takes predicted records again
    asks for their images conditionally, so that fewer bytes are sent.

    Args:
        runs: former runs.
        windows: the number of records of each of the backfill's runs.
        reclassify: which records the backfill takes besides the waiting ones.
        max_active_runs: how many of its runs Airflow lets run at the same time.
        prices: the price list.
    """
    empty, full = [run for run in runs if not run.records], [run for run in runs if run.records]
    alike = [run for run in full if _takes_again(run.reclassify) == _takes_again(reclassify)]
    like = len(alike) >= MIN_RUNS
    chosen = alike if like else full
    if len(chosen) < MIN_RUNS:
        return None

    def total(of: Quantity) -> Amount:
        line = _line(chosen, empty, of)
        return line.scaled(sum(map(line.at, windows)))

    return Estimate(
        runs=len(chosen),
        like=like,
        image_bytes=total(lambda run: run.stages["fetch"].bytes if "fetch" in run.stages else 0),
        s3_requests=total(lambda run: sum(run.work.s3_requests.values())),
        s3_sent=total(lambda run: run.work.s3_sent),
        s3_received=total(lambda run: run.work.s3_received),
        stage_seconds={name: total(_seconds_of(name)) for name in _steps_of(chosen)},
        elapsed_s=_elapsed(chosen, empty, windows, max_active_runs),
        cost=total(lambda run: prices.cost(run.work, run.records).total),
        currency=prices.currency,
    )


def _steps_of(runs: Sequence[PastRun]) -> list[str]:
    """The steps of runs, in the order of the pipeline."""
    names = dict.fromkeys(name for run in runs for name in run.stages)
    return sorted(names, key=lambda name: STEPS.index(name) if name in STEPS else len(STEPS))


def _seconds_of(stage: str) -> Quantity:
    return lambda run: run.stages[stage].seconds if stage in run.stages else 0.0


def _past_run(ledger: Mapping[str, Any]) -> PastRun:
    selection, names = ledger["selection"], {each.name for each in fields(StageReport)}
    of_cli = is_of_cli(Generation(str(ledger["run"])))
    started = datetime.fromisoformat(selection["at"])
    return PastRun(
        records=ledger["selected"],
        reclassify=Reclassify(selection["reclassify"]),
        elapsed_s=None if of_cli else (ledger["finished_at"] - started).total_seconds(),
        stages={
            name: StageReport.of({key: value for key, value in report.items() if key in names})
            for name, report in ledger["stages"].items()
        },
    )


def _takes_again(reclassify: Reclassify) -> bool:
    return reclassify is not Reclassify.NEVER


@dataclass(frozen=True, slots=True)
class _Line:
    """A fitted quantity.

    Attributes:
        fixed: of a run with records.
        per_record: of each record, on top.
        empty: of a run without records.
        low: the ratio of what former runs took to the fit, which one in ten was below.
        high: the ratio which one in ten was above.
    """

    fixed: float
    per_record: float
    empty: float
    low: float
    high: float

    def at(self, records: int) -> float:
        """The quantity of a run."""
        return self.fixed + self.per_record * records if records else self.empty

    def scaled(self, total: float) -> Amount:
        """A total with its spread."""
        return Amount(total, total * self.low, total * self.high)


def _line(runs: Sequence[PastRun], empty: Sequence[PastRun], of: Quantity) -> _Line:
    points = [(run.records, float(of(run))) for run in runs]
    fixed, per_record = _fitted(points)
    ratios = [value / (fixed + per_record * records) for records, value in points if fixed or per_record]
    tenths = quantiles(ratios, n=10, method="inclusive") if ratios else [1.0]
    without_records = fmean(map(of, empty)) if empty else fixed
    return _Line(fixed, per_record, without_records, min(tenths[0], 1.0), max(tenths[-1], 1.0))


def _fitted(points: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """The fixed part and the part of each record, neither negative, of (records, value) points.

    Least squares, each point weighted by 1 / its fitted value: the larger a value, the more it varies. So
    the fit's sum is that of the points. If all runs have one size, everything is the records' part.
    """
    fixed, per_record = 0.0, sum(value for _, value in points) / sum(records for records, _ in points)
    if not per_record or len({records for records, _ in points}) == 1:
        return fixed, per_record
    for _ in range(_FITTING_ROUNDS):
        weights = [1 / (fixed + per_record * records) for records, _ in points]
        fixed, per_record = _weighted(points, weights)
    return fixed, per_record


def _weighted(points: Sequence[tuple[int, float]], weights: Sequence[float]) -> tuple[float, float]:
    total = sum(weights)
    x = sum(weight * records for weight, (records, _) in zip(weights, points, strict=True)) / total
    y = sum(weight * value for weight, (_, value) in zip(weights, points, strict=True)) / total
    both = list(zip(weights, points, strict=True))
    covariance = sum(weight * (records - x) * (value - y) for weight, (records, value) in both)
    variance = sum(weight * (records - x) ** 2 for weight, (records, _) in both)
    slope = covariance / variance
    if slope <= 0:
        return y, 0.0
    if y < slope * x:
        return 0.0, y / x
    return y - slope * x, slope


def _elapsed(
    runs: Sequence[PastRun], empty: Sequence[PastRun], windows: Sequence[int], max_active_runs: int
) -> Amount | None:
    """The time until the last run has finished, if the workers have room for the runs."""
    timed, timed_empty = _without_waiting(runs), _without_waiting(empty)
    if not timed:
        return None
    line = _line(timed, timed_empty, lambda run: run.elapsed_s or 0.0)
    ends = [0.0] * max_active_runs
    for records in windows:
        heapq.heapreplace(ends, ends[0] + line.at(records) + UNSEEN_S)
    return line.scaled(max(ends))


def _without_waiting(runs: Sequence[PastRun]) -> list[PastRun]:
    """The runs of Airflow, without those that waited for a person or a retry."""
    timed = [(run, run.elapsed_s - run.work.seconds) for run in runs if run.elapsed_s is not None]
    if not timed:
        return []
    usual = max(median(overhead for _, overhead in timed), UNSEEN_S)
    return [run for run, overhead in timed if overhead <= _WAITED * usual]
