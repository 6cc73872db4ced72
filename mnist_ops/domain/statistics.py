"""Two statistics for comparing models: an interval for a share, and a test of paired results."""

from math import sqrt
from statistics import NormalDist


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's interval for a probability, from the number of successes in a number of trials.

    Unlike the normal approximation, it stays within 0 and 1, and it has a width even if every trial
    succeeded. Without any trial it is 0 to 1.

    Args:
        successes: the number of successes.
        trials: the number of independent trials.
        confidence: the share of such intervals that contain the probability, over 0 and under 1.

    Returns:
        The lower and the upper end, 0 to 1.

    Raises:
        ValueError: more successes than trials, a negative number, or a confidence out of range.
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
    # Rounding would leave the ends just off 0 or 1 if the share is 0 or 1.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == trials else min(1.0, centre + half)
    return low, high


def mcnemar_exact(b: int, c: int) -> float:
    """McNemar's exact test: how likely is this split of disagreements between two equally good classifiers.

    Examples that both get right, or both wrong, do not show which one is better. If neither is, each of the
    others is a toss of a fair coin. The result is the two-sided p of those tosses; it is summed in whole
    numbers and rounded once, so it is exact for any number of them.

    Args:
        b: the number of examples that only the first classifier got right.
        c: the number of examples that only the second one got right.

    Returns:
        The probability of a split at least this uneven, in either direction; 1 if they never disagree.

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
