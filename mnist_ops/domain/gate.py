"""The gate: decides whether a challenger may replace the champion, by both models' results on one test fold.

Accuracies alone do not decide: of two equally good models, one is always ahead on a finite fold. McNemar's
exact test looks at the examples that only one of the two got right. A limit on the calibration error is the
second condition.
"""

import math
from dataclasses import dataclass

from mnist_ops.domain.errors import Permanent
from mnist_ops.domain.records import BundleRef
from mnist_ops.domain.statistics import mcnemar_exact


@dataclass(frozen=True, slots=True)
class Score:
    """One model's result on the test fold.

    Attributes:
        accuracy: the share it got right, 0 to 1.
        samples: how many examples the fold has.
        ece: the expected calibration error of its probabilities, 0 to 1.
        chance_ece: the mean calibration error that perfect probabilities would have on that many examples,
            0 to 1.
    """

    accuracy: float
    samples: int
    ece: float
    chance_ece: float = 0.0


@dataclass(frozen=True, slots=True)
class Disagreements:
    """The examples of one fold that only one of the two models got right.

    Attributes:
        challenger_only_right: those that the challenger alone got right.
        champion_only_right: those that the champion alone got right.
    """

    challenger_only_right: int
    champion_only_right: int


@dataclass(frozen=True, slots=True)
class Gate:
    """The conditions that a challenger must meet.

    Attributes:
        significance: the p of McNemar's exact test must be under this, 0 to 1.
        maximum_ece: how far the challenger's calibration error on the test fold may exceed the error that
            chance explains, 0 to 1.
        minimum_accuracy: a first champion needs this accuracy on the test fold, 0 to 1.
    """

    significance: float = 0.05
    maximum_ece: float = 0.02
    minimum_accuracy: float = 0.9

    @property
    def fewest_examples(self) -> int:
        """The smallest test fold on which a challenger can be better than the champion.

        McNemar's p is 2 / 2^n where the challenger alone is right on all n examples.
        """
        return math.floor(math.log2(2 / self.significance)) + 1


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a challenger may become champion, and why.

    Attributes:
        promote: whether the challenger may become champion.
        why: one line for people, with every number that the decision depends on.
        p_value: of McNemar's exact test; None where there was no champion to compare with.
        compared_with: the champion that it was measured against; None where there was none.
    """

    promote: bool
    why: str
    p_value: float | None
    compared_with: BundleRef | None = None


def decide(
    challenger: Score, champion: Score | None, disagreements: Disagreements | None, gate: Gate
) -> Decision:
    """Decide whether a challenger may become champion.

    With a champion, the challenger must meet three conditions: it alone was right on more examples than the
    champion alone, the two-sided p of that difference is under the gate's significance, and it is calibrated.
    So a worse challenger is refused, a tied one too, and one that is better by no more than chance.
    Without a champion, the challenger must be accurate enough and calibrated.

    Args:
        challenger: its calibrated score on the test fold.
        champion: the champion's score on the same fold; None without a champion.
        disagreements: between the two on that fold; None without a champion.
        gate: the conditions.

    Raises:
        Permanent: only one of champion and disagreements was measured.
    """
    excess = challenger.ece - challenger.chance_ece
    calibrated = excess <= gate.maximum_ece  # False for NaN, too
    calibration = (
        f"ECE {challenger.ece:.4f}, {excess:+.4f} against what chance explains, "
        f"{'within' if calibrated else 'over'} {gate.maximum_ece}"
    )
    mine = f"accuracy {challenger.accuracy:.4f} on the {challenger.samples} digits of the test fold"
    if champion is None and disagreements is None:
        accurate = challenger.accuracy >= gate.minimum_accuracy
        conclusion = _conclusion(
            "good enough as the first champion", accurate, "not accurate enough", calibrated
        )
        needed = f"the first champion needs {gate.minimum_accuracy}"
        return Decision(accurate and calibrated, f"{conclusion}: {mine}, {needed}; {calibration}", None)
    if champion is None or disagreements is None:
        raise Permanent("the champion was measured only in part: evaluate again")
    p_value = mcnemar_exact(disagreements.challenger_only_right, disagreements.champion_only_right)
    ahead = disagreements.challenger_only_right > disagreements.champion_only_right
    better = ahead and p_value < gate.significance
    conclusion = _conclusion("better than the champion", better, _shortcoming(disagreements), calibrated)
    return Decision(
        better and calibrated,
        f"{conclusion}: {mine}, the champion's {champion.accuracy:.4f}; it alone is right on "
        f"{disagreements.challenger_only_right}, the champion alone on {disagreements.champion_only_right}, "
        f"McNemar's exact p = {p_value:.3g}, needs under {gate.significance}; {calibration}",
        p_value,
    )


def _shortcoming(disagreements: Disagreements) -> str:
    lead = disagreements.challenger_only_right - disagreements.champion_only_right
    if lead > 0:
        return "better than the champion by no more than chance"
    return "worse than the champion" if lead < 0 else "no better than the champion"


def _conclusion(good: str, holds: bool, shortcoming: str, calibrated: bool) -> str:
    if holds and calibrated:
        return good
    return "refused, " + " and ".join([shortcoming] * (not holds) + ["uncalibrated"] * (not calibrated))
