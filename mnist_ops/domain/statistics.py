"""The two statistics that decide about models: an interval of a share, and a test of paired answers."""

from math import sqrt
from statistics import NormalDist


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """The interval of a probability, after how often something happened.

    Unlike the textbook interval around the share, it stays within 0 and 1 and has a width even where
    every trial succeeded. No trials say nothing: 0 to 1.

    Args:
        successes: how often it happened.
        trials: out of how many independent trials.
        confidence: how often such an interval holds the probability, over 0 and under 1.

    Returns:
        The lower and the upper end, 0 to 1.

    Raises:
        ValueError: there are more successes than trials, a negative number, or no such confidence.
    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes in {trials} trials")
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence of {confidence} is not between 0 and 1")
    if trials == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, spread = successes / trials, z * z / trials
    centre = (share + spread / 2) / (1 + spread)
    half = z * sqrt(share * (1 - share) / trials + spread / (4 * trials)) / (1 + spread)
    # Rounding alone would leave the ends a hair off where the share is 0 or 1.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == trials else min(1.0, centre + half)
    return low, high


def mcnemar_exact(b: int, c: int) -> float:
    """McNemar's exact test: how likely disagreements this lopsided are between equally good classifiers.

    Examples that both get right or both wrong say nothing about which is better; each of the others is
    a toss of a fair coin if neither is. This is the two-sided p of those tosses, summed in whole numbers
    and rounded once, so it is exact for any number of them.

    Args:
        b: how many examples the one alone got right.
        c: how many the other alone got right.

    Returns:
        The probability of a split at least this uneven, either way round; 1 where they never disagree.

    Raises:
        ValueError: a number is negative.
    Source: Q. McNemar, "Note on the sampling error of the difference between correlated proportions or
    percentages", 1947; with the binomial distribution in place of his approximation by chi-squared.
    """
    if b < 0 or c < 0:
        raise ValueError(f"disagreements are counted from 0 up, not {b} and {c}")
    tosses = b + c
    ways, tail = 1, 0
    for heads in range(min(b, c) + 1):
        tail += ways
        ways = ways * (tosses - heads) // (heads + 1)
    return min(1.0, 2 * tail / (1 << tosses))
