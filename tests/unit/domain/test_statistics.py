"""The interval and the test, against published values and general properties."""

from fractions import Fraction
from math import comb, sqrt
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnist_ops.domain.statistics import mcnemar_exact, wilson_interval

COUNTS = st.integers(0, 400)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_is_the_published_one(successes: int, trials: int, low: float, high: float) -> None:
    """Source: R. G. Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I."""
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_holds_the_share_within_0_and_1(counts: tuple[int, int]) -> None:
    """And is never empty."""
    successes, trials = counts
    low, high = wilson_interval(successes, trials)
    assert 0 <= low <= successes / trials <= high <= 1
    assert low < high


@given(st.integers(0, 1_000))
def test_the_interval_of_failures_mirrors_that_of_successes(successes: int) -> None:
    """It does not matter which of the two is counted."""
    low, high = wilson_interval(successes, 1_000)
    assert wilson_interval(1_000 - successes, 1_000) == pytest.approx((1 - high, 1 - low))


def test_more_confidence_makes_the_interval_wider() -> None:
    """At both ends."""
    (low, high), (lower, higher) = wilson_interval(90, 100, 0.95), wilson_interval(90, 100, 0.99)
    assert lower < low < high < higher


def test_no_trials_say_nothing() -> None:
    """Everything is possible."""
    assert wilson_interval(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("successes", "trials"), [(3, 2), (-1, 2), (0, -1)])
def test_impossible_counts_are_refused(successes: int, trials: int) -> None:
    """They are a mistake of the caller."""
    with pytest.raises(ValueError, match=f"{successes} successes in {trials} trials"):
        wilson_interval(successes, trials)


@pytest.mark.parametrize("confidence", [0.0, 1.0, float("nan")])
def test_an_impossible_confidence_is_refused(confidence: float) -> None:
    """Its interval would be empty, or endless."""
    with pytest.raises(ValueError, match="confidence"):
        wilson_interval(1, 2, confidence)


@pytest.mark.parametrize(
    ("fewer", "tosses", "one_sided"),
    [(0, 5, 0.031), (1, 10, 0.011), (3, 14, 0.029), (3, 17, 0.006), (7, 25, 0.022), (10, 25, 0.212)],
)
def test_p_is_twice_the_published_one_sided_probability(fewer: int, tosses: int, one_sided: float) -> None:
    """Source: S. Siegel, "Nonparametric statistics", 1956, table D."""
    assert mcnemar_exact(fewer, tosses - fewer) / 2 == pytest.approx(one_sided, abs=5e-4)


@given(COUNTS, COUNTS)
def test_p_is_the_exact_binomial_tail(b: int, c: int) -> None:
    """To the last bit."""
    tail = sum(comb(b + c, heads) for heads in range(min(b, c) + 1))
    assert mcnemar_exact(b, c) == float(min(Fraction(1), Fraction(2 * tail, 2 ** (b + c))))


@given(COUNTS, COUNTS)
def test_p_is_a_probability_and_the_same_both_ways_round(b: int, c: int) -> None:
    """It does not matter who is called the challenger."""
    assert 0 < mcnemar_exact(b, c) == mcnemar_exact(c, b) <= 1


@given(st.integers(0, 200), st.integers(0, 200), st.integers(1, 50))
def test_p_falls_the_further_one_is_ahead(behind: int, lead: int, more: int) -> None:
    """The same for every number of the other's rights."""
    assert mcnemar_exact(behind + lead + more, behind) <= mcnemar_exact(behind + lead, behind)


@given(COUNTS)
def test_a_tie_says_nothing(b: int) -> None:
    """However many examples are tied."""
    assert mcnemar_exact(b, b) == 1.0


def test_p_is_exact_for_thousands_of_disagreements() -> None:
    """Where floats would overflow, and the normal approximation has long been good."""
    for b, c in ((5_000, 5_100), (4_000, 4_400)):
        z = (abs(b - c) - 1) / sqrt(b + c)
        assert mcnemar_exact(b, c) == pytest.approx(2 * NormalDist().cdf(-z), rel=0.01)
    assert mcnemar_exact(0, 5_000) == 0.0


@pytest.mark.parametrize(("b", "c"), [(-1, 2), (2, -1)])
def test_negative_counts_are_refused(b: int, c: int) -> None:
    """They are a mistake of the caller."""
    with pytest.raises(ValueError, match="counted from 0"):
        mcnemar_exact(b, c)
