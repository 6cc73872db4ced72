"""A random audit: who is drawn, and what the answers say about all records."""

import random
from collections.abc import Sequence
from functools import cache
from math import comb, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_ops.domain.audit import (
    AuditedStratum,
    Estimate,
    Predicted,
    accuracy_of,
    allocate,
    by_confidence,
    by_label,
    by_label_and_confidence,
    draw,
    estimate,
)

RECORDS = [
    Predicted(f'{{"$oid":"{number:024x}"}}', number % 10, 1 - (number % 97) ** 2 / 20_000)
    for number in range(3_000)
]


def test_the_same_seed_draws_the_same_records_in_any_order() -> None:
    """An audit can be repeated."""
    shuffled = random.Random(5).sample(RECORDS, len(RECORDS))
    assert draw(RECORDS, 100, seed=7) == draw(shuffled, 100, seed=7)


def test_another_seed_draws_other_records() -> None:
    """The next audit asks about others."""
    first, second = (set(draw(RECORDS, 100, seed).sample["all"]) for seed in (1, 2))
    assert len(first & second) < 15


def test_every_record_is_drawn_as_often_as_any_other() -> None:
    """A hash is as good as a lot."""
    drawn = {record.id: 0 for record in RECORDS[:50]}
    for seed in range(2_000):
        for id_ in draw(RECORDS[:50], 10, seed).sample["all"]:
            drawn[id_] += 1
    assert len(drawn) == 50
    # 400 expected of each, with a standard deviation of 18.
    assert all(400 - 5 * 18 < count < 400 + 5 * 18 for count in drawn.values())


def test_a_larger_sample_holds_the_smaller_one() -> None:
    """An audit that is too small is enlarged: ten labels more only add ten records."""
    assert draw(RECORDS, 60, 3).sample["all"] == draw(RECORDS, 70, 3).sample["all"][:60]


def test_no_more_than_all_records_are_drawn() -> None:
    """A small collection is labelled whole."""
    audit = draw(RECORDS[:7], 100, seed=0)
    assert sorted(audit.sample["all"]) == sorted(record.id for record in RECORDS[:7])


def test_every_stratum_is_drawn_from_and_the_doubtful_more() -> None:
    """Labels go where errors are expected."""
    audit = draw(RECORDS, 200, 0, by_confidence)
    assert sum(map(len, audit.sample.values())) == 200
    assert sum(audit.records.values()) == len(RECORDS)
    share = {name: len(ids) / audit.records[name] for name, ids in audit.sample.items()}
    assert share["under 0.9"] > share["0.9 to 0.99"] > 0
    assert share["under 0.9"] > share["from 0.99"] > 0


def test_a_record_is_drawn_in_its_own_stratum() -> None:
    """Classes stay apart."""
    labels = {record.id: by_label(record) for record in RECORDS}
    audit = draw(RECORDS, 50, 0, by_label)
    assert {name for name, ids in audit.sample.items() for id_ in ids if labels[id_] != name} == set()
    assert list(audit.sample) == [f"class {index}" for index in range(10)]


def test_fewer_labels_than_strata_are_refused() -> None:
    """A stratum that nobody looked at has no estimate."""
    with pytest.raises(ValueError, match=r"9 labels are too few for \d+ strata"):
        draw(RECORDS, 9, 0, by_label_and_confidence)


@given(
    st.dictionaries(
        st.text(max_size=3), st.tuples(st.integers(1, 500), st.floats(0, 1)), min_size=1, max_size=12
    ),
    st.integers(12, 400),
)
def test_labels_are_shared_out_to_the_last(strata: dict[str, tuple[int, float]], size: int) -> None:
    """Neither more than was asked for nor more than there are."""
    counts = {name: count for name, (count, _) in strata.items()}
    labels = allocate(counts, {name: doubt for name, (_, doubt) in strata.items()}, size)
    assert sum(labels.values()) == min(size, sum(counts.values()))
    assert all(1 <= labels[name] <= count for name, count in counts.items())


def test_an_audit_without_all_answers_is_refused() -> None:
    """What is hard to label was often hard to predict: leaving it out would flatter the model."""
    audit = draw(RECORDS, 20, 0)
    answers = dict.fromkeys(audit.sample["all"][:18], True)
    with pytest.raises(ValueError, match="2 records of the sample are not labelled"):
        estimate(audit, answers)


def test_a_stratum_counts_by_its_records_not_by_its_labels() -> None:
    """Half of the labels went to a tenth of the records, where a fifth is wrong."""
    found = accuracy_of([AuditedStratum(9_000, 100, 0), AuditedStratum(1_000, 100, 20)])
    assert found.accuracy == pytest.approx(0.98)
    assert found.low < 0.98 < found.high


def test_records_labelled_to_the_last_leave_no_doubt() -> None:
    """Nothing is estimated any more."""
    assert accuracy_of([AuditedStratum(50, 50, 1)]) == Estimate(0.98, 0.98, 0.98, 0.95, 50)
    both = accuracy_of([AuditedStratum(50, 50, 1), AuditedStratum(50, 50, 0)])
    assert (both.low, both.high) == pytest.approx((0.99, 0.99))


def test_a_flawless_sample_still_leaves_doubt() -> None:
    """Of many records, the rule of three: with 300 labels, up to 1.2 % may be wrong (two-sided)."""
    simple = accuracy_of([AuditedStratum(10_000_000, 300, 0)])
    assert simple.high == 1
    assert simple.low == pytest.approx(0.025 ** (1 / 300), abs=1e-5)
    stratified = accuracy_of([AuditedStratum(5_000_000, 150, 0)] * 2)
    assert stratified.high == 1
    assert 1 - stratified.low == pytest.approx(-log(0.025) / 300, abs=1e-6)


def test_the_interval_of_a_simple_sample_is_the_exact_one() -> None:
    """Each end is the last number of wrong records under which the finding has 2.5 % or more."""
    records, labelled, wrong = 60, 20, 3

    def chance(of: range, total: int) -> float:
        ways = sum(comb(total, each) * comb(records - total, labelled - each) for each in of)
        return ways / comb(records, labelled)

    possible = [
        total
        for total in range(wrong, records - (labelled - wrong) + 1)
        if chance(range(wrong, labelled + 1), total) >= 0.025 and chance(range(wrong + 1), total) >= 0.025
    ]
    found = accuracy_of([AuditedStratum(records, labelled, wrong)])
    assert (found.low, found.high) == pytest.approx(
        (1 - max(possible) / records, 1 - min(possible) / records)
    )


@given(
    st.lists(
        st.integers(1, 60).flatmap(
            lambda labelled: st.builds(
                AuditedStratum,
                records=st.integers(labelled, 5_000),
                labelled=st.just(labelled),
                wrong=st.integers(0, labelled),
            )
        ),
        min_size=1,
        max_size=6,
    )
)
def test_the_best_guess_is_within_its_interval(strata: list[AuditedStratum]) -> None:
    """Whatever was found."""
    found = accuracy_of(strata)
    assert -1e-9 <= found.low <= found.accuracy <= found.high <= 1 + 1e-9


@pytest.mark.parametrize("confidence", [0, 1, 95])
def test_an_impossible_confidence_is_refused(confidence: float) -> None:
    """It is a share, not a percentage."""
    with pytest.raises(ValueError, match="confidence"):
        accuracy_of([AuditedStratum(10, 5, 0)], confidence)


def test_nothing_audited_is_refused() -> None:
    """There is no accuracy of nothing."""
    with pytest.raises(ValueError, match="nothing"):
        estimate(draw([], 10, 0), {})


@pytest.mark.parametrize("counts", [(10, 11, 0), (10, 5, 6), (10, 0, 0), (10, 5, -1)])
def test_impossible_findings_are_refused(counts: tuple[int, int, int]) -> None:
    """Counts fit one another."""
    with pytest.raises(ValueError, match="wrong of"):
        AuditedStratum(*counts)


SIMULATIONS = 2_000
# Records, labels and the accuracy of each stratum: shares of the three bands that models really have.
BANDS = (18_500, 1_000, 500)
DESIGNS = {
    **{f"simple {share:.2%}": [(20_000, 400, share)] for share in (0.9, 0.99, 0.995, 0.999, 0.9996)},
    "simple, a third of few records": [(900, 300, 0.99)],
    **{
        f"by class {share:.1%}": [
            (2_000, 40, share - spread) for spread in np.linspace(-1, 1, 10) * (1 - share)
        ]
        for share in (0.9, 0.99, 0.999)
    },
    "by confidence 90 %": list(zip(BANDS, (200, 100, 100), (0.93, 0.6, 0.5), strict=True)),
    "by confidence 99 %": list(zip(BANDS, (200, 100, 100), (0.998, 0.93, 0.8), strict=True)),
    "by confidence 99.9 %": list(zip(BANDS, (200, 100, 100), (0.9998, 0.995, 0.98), strict=True)),
    "nearly all labels for the doubtful": [(18_000, 50, 0.99), (2_000, 350, 0.9)],
    "most errors where few labels are": [(18_000, 50, 0.95), (2_000, 350, 1.0)],
    "one stratum labelled to the last": [(18_000, 300, 0.999), (100, 100, 0.7)],
}


@pytest.mark.parametrize("design", DESIGNS)
def test_the_interval_covers_the_truth(design: str) -> None:
    """At least 93 times of 100, in samples drawn without replacement from records of known errors."""
    strata = [(records, labels, round(records * (1 - share))) for records, labels, share in DESIGNS[design]]
    truth = 1 - sum(wrong for *_, wrong in strata) / sum(records for records, *_ in strata)
    generator = np.random.default_rng(20_261_121)
    drawn = np.stack(
        [
            generator.hypergeometric(wrong, records - wrong, labels, SIMULATIONS)
            for records, labels, wrong in strata
        ],
        axis=1,
    )

    @cache
    def found(wrongs: Sequence[int]) -> Estimate:
        return accuracy_of(
            [AuditedStratum(*stratum[:2], wrong) for stratum, wrong in zip(strata, wrongs, strict=True)]
        )

    covered = sum(
        found(wrongs).low - 1e-12 <= truth <= found(wrongs).high + 1e-12
        for wrongs in map(tuple, drawn.tolist())
    )
    assert covered / SIMULATIONS >= 0.93


@pytest.mark.parametrize("accuracy", [0.9, 0.99, 0.999])
def test_drawn_and_answered_audits_cover_the_truth(accuracy: float) -> None:
    """The whole way: hashes draw, people answer. The unsure are wrong more often."""
    generator = random.Random(11)
    doubts = [generator.random() ** 4 for _ in range(1_000)]
    scale = (1 - accuracy) * len(doubts) / sum(doubts)
    records = [Predicted(str(number), number % 10, 1 - doubt) for number, doubt in enumerate(doubts)]
    right = {record.id: generator.random() >= (1 - record.confidence) * scale for record in records}
    truth = sum(right.values()) / len(right)
    covered = 0
    for seed in range(300):
        found = estimate(draw(records, 150, seed, by_confidence), right)
        covered += found.low <= truth <= found.high
    assert covered / 300 >= 0.93
