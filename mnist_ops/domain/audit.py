"""How accurate the predictions in production are, by a random sample of them that people label.

A sample is drawn by hashing the record ids with a seed: the same records and seed give the same sample, in
whatever order the records come. It is simple, or stratified by what the model said, with more labels where
it doubts; each stratum then counts by its share of the records, not by its share of the labels.
"""

import hashlib
import heapq
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import exp, lgamma, log, sqrt

_SURE, _SURER = 0.9, 0.99  # where the bands of confidence begin
_LEAST = 5  # labels a stratum gets, however small its share
# Errors are expected in no fewer than this share: a model must not talk its auditors out of looking.
_LEAST_DOUBT = 0.02
_HALVINGS = 60  # of an interval, until a float is found


@dataclass(frozen=True, slots=True)
class Predicted:
    """What the audit needs to know of a record that carries a prediction.

    Attributes:
        id: the `_id` as canonical Extended JSON.
        index: the predicted class.
        confidence: its probability, 0 to 1.
    """

    id: str
    index: int
    confidence: float


@dataclass(frozen=True, slots=True)
class Audit:
    """A drawn sample.

    Attributes:
        seed: what it was drawn with.
        records: how many predicted records each stratum has.
        sample: the ids that people are to label, by stratum, in random order.
    """

    seed: int
    records: Mapping[str, int]
    sample: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class AuditedStratum:
    """What people found in one stratum.

    Attributes:
        records: how many it has.
        labelled: how many of them, drawn at random, people labelled: at least one.
        wrong: how many of those were predicted otherwise.
    """

    records: int
    labelled: int
    wrong: int

    def __post_init__(self) -> None:
        if not 0 <= self.wrong <= self.labelled <= self.records or not self.labelled:
            raise ValueError(f"{self.wrong} wrong of {self.labelled} labelled of {self.records} records")


@dataclass(frozen=True, slots=True)
class Estimate:
    """The accuracy of all predicted records.

    Attributes:
        accuracy: the best guess, 0 to 1.
        low: the interval's lower end.
        high: its upper end.
        confidence: how often such an interval holds the truth.
        labelled: how many records people labelled.
    """

    accuracy: float
    low: float
    high: float
    confidence: float
    labelled: int


def whole(_: Predicted) -> str:
    """One stratum: a simple random sample."""
    return "all"


def by_label(record: Predicted) -> str:
    """A stratum a predicted class."""
    return f"class {record.index}"


def by_confidence(record: Predicted) -> str:
    """Three strata: unsure, sure and very sure."""
    if record.confidence < _SURE:
        return f"under {_SURE}"
    return f"{_SURE} to {_SURER}" if record.confidence < _SURER else f"from {_SURER}"


def by_label_and_confidence(record: Predicted) -> str:
    """Up to thirty strata."""
    return f"{by_label(record)}, {by_confidence(record)}"


def draw(
    records: Iterable[Predicted], size: int, seed: int, stratum_of: Callable[[Predicted], str] = whole
) -> Audit:
    """Draw records for people to label, without replacement; all of them where there are no more.

    Args:
        records: all that carry a prediction, each once. They are read once and not kept.
        size: of the sample, at least one a stratum.
        seed: another seed draws another sample.
        stratum_of: `whole`, or one of the `by_...`.

    Raises:
        ValueError: there are more strata than labels.
    """
    heaps: dict[str, list[tuple[int, str]]] = {}
    counts: dict[str, int] = {}
    doubts: dict[str, float] = {}
    for record in records:
        stratum = stratum_of(record)
        counts[stratum] = counts.get(stratum, 0) + 1
        doubts[stratum] = doubts.get(stratum, 0.0) + 1 - record.confidence
        heap = heaps.setdefault(stratum, [])
        keep = heapq.heappush if len(heap) < size else heapq.heappushpop
        keep(heap, (-random_rank(seed, record.id), record.id))
    if size < len(counts):
        raise ValueError(f"{size} labels are too few for {len(counts)} strata")
    shares = allocate(counts, {name: doubts[name] / count for name, count in counts.items()}, size)
    names = sorted(counts)
    sample = {
        name: tuple(id_ for _, id_ in sorted(heaps[name], reverse=True)[: shares[name]]) for name in names
    }
    return Audit(seed, {name: counts[name] for name in names}, sample)


def allocate(counts: Mapping[str, int], doubts: Mapping[str, float], size: int) -> dict[str, int]:
    """How many labels each stratum gets: by its records times the spread that its doubt foretells.

    Args:
        counts: records of each stratum.
        doubts: mean of 1 - confidence of each stratum.
        size: labels in all, at least one a stratum.

    Source: J. Neyman, "On the two different aspects of the representative method", 1934.
    """
    least = max(1, min(_LEAST, size // max(1, len(counts))))
    labels = {name: min(count, least) for name, count in counts.items()}
    foretold = {name: min(0.5, max(_LEAST_DOUBT, doubt)) for name, doubt in doubts.items()}
    weights = {name: counts[name] * sqrt(doubt * (1 - doubt)) for name, doubt in foretold.items()}
    for _ in range(min(size, sum(counts.values())) - sum(labels.values())):
        # One by one, each to whom it helps most: no rounding, and nobody gets more than there is.
        open_ = (name for name in sorted(counts) if labels[name] < counts[name])
        neediest = max(open_, key=lambda name: weights[name] / (labels[name] + 1))
        labels[neediest] += 1
    return labels


def estimate(audit: Audit, right: Mapping[str, bool], confidence: float = 0.95) -> Estimate:
    """The accuracy of all records of an audit, from what people said about those drawn.

    Args:
        audit: the sample.
        right: whether the prediction was right, by id; others than those drawn are not looked at.
        confidence: over 0 and under 1.

    Raises:
        ValueError: a drawn record has no answer (those that are hard to label are often those that were
            hard to predict: leaving them out would flatter the model), or nothing was drawn.
    """
    missing = sum(id_ not in right for ids in audit.sample.values() for id_ in ids)
    if missing:
        raise ValueError(f"{missing} records of the sample are not labelled")
    strata = [
        AuditedStratum(audit.records[name], len(ids), sum(not right[id_] for id_ in ids))
        for name, ids in audit.sample.items()
    ]
    return accuracy_of(strata, confidence)


def accuracy_of(strata: Sequence[AuditedStratum], confidence: float = 0.95) -> Estimate:
    """The accuracy of all records of some strata, with its interval.

    The interval of one stratum is exact (hypergeometric), that of several is Fay and Feuer's, which treats
    errors as rare: it is never much too narrow, and wider than need be where more than a third is wrong.

    Raises:
        ValueError: there is no stratum, or no such confidence.
    """
    if not strata:
        raise ValueError("nothing was audited")
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence of {confidence} is not between 0 and 1")
    total = sum(stratum.records for stratum in strata)
    wrong = sum(stratum.records / total * stratum.wrong / stratum.labelled for stratum in strata)
    if len(strata) == 1:
        low, high = _simple(strata[0], (1 - confidence) / 2)
    else:
        low, high = _stratified(strata, total, (1 - confidence) / 2)
    labelled = sum(stratum.labelled for stratum in strata)
    return Estimate(1 - wrong, 1 - max(high, wrong), 1 - min(low, wrong), confidence, labelled)


def random_rank(seed: int, record_id: str) -> int:
    """Where a record is in the random order of a seed: those that come first are drawn."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{record_id}".encode()).digest())


def _simple(stratum: AuditedStratum, tail: float) -> tuple[float, float]:
    """The exact interval of the share of wrong predictions, after a draw without replacement.

    Source: W. G. Cochran, "Sampling Techniques", 3rd edition, 1977, chapter 3.
    """
    records, labelled, wrong = stratum.records, stratum.labelled, stratum.wrong
    fewest, most = wrong, records - (labelled - wrong)
    # The fewest wrong records with which as many wrong labels as were found are not too surprising.
    low = fewest + bisect_left(
        range(fewest, most), tail, key=lambda each: 1 - _at_most(wrong - 1, records, each, labelled)
    )
    # The most with which as few are not.
    high = fewest + bisect_right(
        range(fewest + 1, most + 1), -tail, key=lambda each: -_at_most(wrong, records, each, labelled)
    )
    return low / records, high / records


def _at_most(found: int, records: int, wrong: int, labelled: int) -> float:
    """How likely a draw of `labelled` from `records` has at most `found` of the `wrong` among them."""
    first = max(0, labelled - (records - wrong))
    every = _log_choose(records, labelled)
    logs = (
        _log_choose(wrong, each) + _log_choose(records - wrong, labelled - each) - every
        for each in range(first, min(found, wrong, labelled) + 1)
    )
    return min(1.0, sum(map(exp, logs)))


def _log_choose(among: int, chosen: int) -> float:
    return lgamma(among + 1) - lgamma(chosen + 1) - lgamma(among - chosen + 1)


def _stratified(strata: Sequence[AuditedStratum], total: int, tail: float) -> tuple[float, float]:
    """The interval of a sum of rare errors that count differently.

    A stratum that was labelled to the last record adds what it has, and no doubt.

    Source: M. P. Fay and E. J. Feuer, "Confidence intervals for directly standardized rates: a method
    based on the gamma distribution", Statistics in Medicine 16, 1997.
    """
    known = sum(stratum.wrong for stratum in strata if stratum.labelled == stratum.records) / total
    sampled = [stratum for stratum in strata if stratum.labelled < stratum.records]
    if not sampled:
        return known, known
    weights = [stratum.records / total / stratum.labelled for stratum in sampled]
    mean = sum(weight * stratum.wrong for weight, stratum in zip(weights, sampled, strict=True))
    variance = sum(weight**2 * stratum.wrong for weight, stratum in zip(weights, sampled, strict=True))
    low = variance / mean * _gamma_quantile(tail, mean**2 / variance) if mean else 0.0
    # One more error, of the heaviest weight, might just not have been drawn.
    heaviest = max(weights)
    mean, variance = mean + heaviest, variance + heaviest**2
    high = variance / mean * _gamma_quantile(1 - tail, mean**2 / variance)
    return known + low, min(1.0, known + high)


@lru_cache(maxsize=1024)
def _gamma_quantile(probability: float, shape: float) -> float:
    """Where the gamma distribution of that shape and scale 1 reaches a probability."""
    # Twelve standard deviations above the mean and more: beyond, the series would begin with a zero.
    low, high = 0.0, shape + 12 * sqrt(shape) + 60
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _gamma_share(middle, shape) < probability else (low, middle)
    return (low + high) / 2


def _gamma_share(value: float, shape: float) -> float:
    """The gamma distribution function: the regularised lower incomplete gamma function, by its series.

    Source: M. Abramowitz and I. A. Stegun, "Handbook of Mathematical Functions", 1964, 6.5.29.
    """
    if value <= 0:
        return 0.0
    term = total = exp(shape * log(value) - value - lgamma(shape + 1))
    step = 0
    while term > total * 1e-16:
        step += 1
        term *= value / (shape + step)
        total += term
    return min(1.0, total)
