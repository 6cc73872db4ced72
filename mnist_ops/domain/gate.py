"""The gate: whether a challenger may take the champion's place, by what both did on one test fold.

Accuracies alone do not tell: of two equally good models, one is ahead on any finite fold. What tells is
the examples that only one of the two got right (McNemar's exact test), together with a limit on how far
the challenger's probabilities are from the truth.
"""

from dataclasses import dataclass

from mnist_ops.domain.errors import Permanent
from mnist_ops.domain.records import BundleRef
from mnist_ops.domain.statistics import mcnemar_exact


@dataclass(frozen=True, slots=True)
class Score:
    """What one model did on the test fold.

    Attributes:
        accuracy: the share it got right, 0 to 1.
        samples: how many examples the fold has.
        ece: the expected calibration error of its probabilities, 0 to 1.
        chance_ece: what exactly right probabilities would show on as few examples, on average, 0 to 1.
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
    """What is asked of a challenger.

    Attributes:
        significance: the p of McNemar's exact test must be under this, 0 to 1.
        maximum_ece: the challenger's calibration error on the test fold must not exceed what chance
            explains by more than this, 0 to 1.
        minimum_accuracy: a first champion needs this accuracy on the test fold, 0 to 1.
    """

    significance: float = 0.05
    maximum_ece: float = 0.02
    minimum_accuracy: float = 0.9


@dataclass(frozen=True, slots=True)
class Decision:
    """What the gate says.

    Attributes:
        promote: whether the challenger may become champion.
        why: one line for people, with every number that decided.
        p_value: of McNemar's exact test; None where there was no champion to compare with.
        compared_with: the champion that it was measured against; None where there was none.
    """

    promote: bool
    why: str
    p_value: float | None
    compared_with: BundleRef | None = None

    def holds_against(self, champion: BundleRef | None) -> bool:
        """Whether it says anything about replacing this champion: it was measured against that one."""
        return self.compared_with == champion


def judge(
    challenger: Score, champion: Score | None, disagreements: Disagreements | None, gate: Gate
) -> Decision:
    """Decide whether a challenger may become champion.

    With a champion: only if it alone was right more often than the champion alone, the two-sided p of
    that is under the gate's significance, and it is calibrated. Worse and tied ones are refused, and so
    are those that are better by no more than chance. Without a champion: if it is accurate enough and
    calibrated.

    Args:
        challenger: its calibrated score on the test fold.
        champion: the champion's on the same fold; None where there is none.
        disagreements: between the two on that fold; None where there is no champion.
        gate: what is asked for.

    Raises:
        Permanent: of champion and disagreements only one was measured.
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
        verdict = _verdict("good enough as the first champion", accurate, "not accurate enough", calibrated)
        needed = f"the first champion needs {gate.minimum_accuracy}"
        return Decision(accurate and calibrated, f"{verdict}: {mine}, {needed}; {calibration}", None)
    if champion is None or disagreements is None:
        raise Permanent("the champion was measured only in part: evaluate again")
    p_value = mcnemar_exact(disagreements.challenger_only_right, disagreements.champion_only_right)
    ahead = disagreements.challenger_only_right > disagreements.champion_only_right
    better = ahead and p_value < gate.significance
    verdict = _verdict("better than the champion", better, _shortcoming(disagreements), calibrated)
    return Decision(
        better and calibrated,
        f"{verdict}: {mine}, the champion's {champion.accuracy:.4f}; it alone is right on "
        f"{disagreements.challenger_only_right}, the champion alone on {disagreements.champion_only_right}, "
        f"McNemar's exact p = {p_value:.3g}, needs under {gate.significance}; {calibration}",
        p_value,
    )


def _shortcoming(disagreements: Disagreements) -> str:
    lead = disagreements.challenger_only_right - disagreements.champion_only_right
    if lead > 0:
        return "better than the champion by no more than chance"
    return "worse than the champion" if lead < 0 else "no better than the champion"


def _verdict(good: str, holds: bool, shortcoming: str, calibrated: bool) -> str:
    if holds and calibrated:
        return good
    return "refused, " + " and ".join([shortcoming] * (not holds) + ["uncalibrated"] * (not calibrated))
