"""The gate: which challengers are promoted, and the numbers in the reason."""

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mnist_ops.domain.errors import Permanent
from mnist_ops.domain.gate import Decision, Disagreements, Gate, Score, decide
from mnist_ops.domain.statistics import mcnemar_exact

SAMPLES = 10_000
GATE = Gate()
COUNTS = st.integers(0, 300)
ECES = st.floats(0, 1)
GATES = st.builds(
    Gate,
    significance=st.floats(0, 1, exclude_min=True),
    maximum_ece=st.floats(0, 1),
    minimum_accuracy=st.floats(0, 1),
)


def decided(mine: int, theirs: int, ece: float = 0.003, gate: Gate = GATE) -> Decision:
    """The decision if each alone is right on that many digits, and both on 9,000 more."""
    scores = [Score((9_000 + alone) / SAMPLES, SAMPLES, ece) for alone in (mine, theirs)]
    return decide(scores[0], scores[1], Disagreements(mine, theirs), gate)


def first(accuracy: float, ece: float = 0.003, gate: Gate = GATE) -> Decision:
    """The decision without a champion."""
    return decide(Score(accuracy, SAMPLES, ece), None, None, gate)


def test_a_challenger_that_is_better_beyond_chance_is_promoted() -> None:
    """The reason has every number that the decision depends on."""
    decision = decided(40, 12)
    assert decision.promote
    assert decision.p_value == mcnemar_exact(40, 12)
    assert decision.why == (
        "better than the champion: accuracy 0.9040 on the 10000 digits of the test fold, the champion's "
        "0.9012; it alone is right on 40, the champion alone on 12, McNemar's exact p = 0.000128, "
        "needs under 0.05; ECE 0.0030, +0.0030 against what chance explains, within 0.02"
    )


def test_a_worse_challenger_is_refused_with_the_numbers() -> None:
    """However certain it is that the two differ."""
    decision = decided(12, 40)
    assert not decision.promote
    assert decision.why.startswith("refused, worse than the champion: accuracy 0.9012 ")
    assert "alone is right on 12, the champion alone on 40, McNemar's exact p = 0.000128" in decision.why


@pytest.mark.parametrize("alone", [0, 1, 30])
def test_a_tied_challenger_is_refused_with_the_numbers(alone: int) -> None:
    """Whether they never disagree, or equally often in both directions."""
    decision = decided(alone, alone)
    assert (decision.promote, decision.p_value) == (False, 1.0)
    assert decision.why.startswith("refused, no better than the champion: ")
    assert f"right on {alone}, the champion alone on {alone}, McNemar's exact p = 1," in decision.why


def test_a_challenger_ahead_by_chance_is_refused_with_the_numbers() -> None:
    """To be right more often is not enough."""
    decision = decided(20, 15)
    assert not decision.promote
    assert decision.why.startswith("refused, better than the champion by no more than chance: ")
    assert "p = 0.5, needs under 0.05" in decision.why


@pytest.mark.parametrize("significance", [1.0, 0.5, 0.05, 0.01, 1e-9])
def test_the_fewest_examples_are_those_on_which_a_challenger_can_win(significance: float) -> None:
    """If it alone is right on all of them; on one fewer it cannot."""
    gate = Gate(significance=significance)
    assert decided(gate.fewest_examples, 0, gate=gate).promote
    assert not decided(gate.fewest_examples - 1, 0, gate=gate).promote


def test_a_p_that_just_reaches_the_significance_is_refused() -> None:
    """It must be under the significance."""
    p = mcnemar_exact(15, 5)
    assert decided(15, 5, gate=Gate(significance=p + 1e-9)).promote
    assert not decided(15, 5, gate=Gate(significance=p)).promote


@pytest.mark.parametrize("ece", [0.0201, 1.0, float("nan")])
def test_a_better_but_uncalibrated_challenger_is_refused_with_the_numbers(ece: float) -> None:
    """Better labels do not make up for wrong probabilities; an error of NaN is refused too."""
    decision = decided(40, 12, ece=ece)
    assert not decision.promote
    assert decision.why.startswith("refused, uncalibrated: ")
    assert f"ECE {ece:.4f}" in decision.why
    assert decision.why.endswith("over 0.02")


def test_a_challenger_that_is_worse_and_uncalibrated_gets_both_reasons() -> None:
    """So that nobody fixes one problem only to meet the other."""
    assert decided(1, 9, ece=0.3).why.startswith("refused, worse than the champion and uncalibrated: ")


def test_an_ece_at_the_limit_is_within_it() -> None:
    """The limit itself is allowed."""
    assert decided(40, 12, ece=0.02).promote


def test_what_chance_explains_is_not_held_against_a_challenger() -> None:
    """On a small fold exactly right probabilities show an error, too."""
    small = Score(accuracy=0.98, samples=100, ece=0.035, chance_ece=0.02)
    assert decide(small, None, None, GATE).promote
    assert not decide(replace(small, chance_ece=0.01), None, None, GATE).promote


def test_the_first_champion_needs_the_minimum_accuracy() -> None:
    """There is nothing to compare it with."""
    good, bad = first(0.9), first(0.8999)
    assert (good.promote, bad.promote) == (True, False)
    assert (good.p_value, bad.p_value) == (None, None)
    assert good.why.startswith("good enough as the first champion: accuracy 0.9000 on the 10000 digits")
    assert bad.why.startswith("refused, not accurate enough: accuracy 0.8999 ")
    assert "the first champion needs 0.9; ECE" in bad.why


def test_the_first_champion_has_to_be_calibrated() -> None:
    """Like any other."""
    decision = first(0.99, ece=0.0201)
    assert not decision.promote
    assert decision.why.startswith("refused, uncalibrated: ")


@pytest.mark.parametrize(
    ("champion", "disagreements"), [(Score(0.9, 10, 0.0), None), (None, Disagreements(3, 1))]
)
def test_a_champion_that_was_measured_only_in_part_is_an_error(
    champion: Score | None, disagreements: Disagreements | None
) -> None:
    """The challenger is not taken for a first champion."""
    with pytest.raises(Permanent, match="evaluate again"):
        decide(Score(0.99, 10, 0.0), champion, disagreements, GATE)


@given(COUNTS, COUNTS, ECES, GATES)
def test_a_challenger_that_is_right_less_often_is_not_promoted(
    mine: int, theirs: int, ece: float, gate: Gate
) -> None:
    """Whatever the gate's settings are."""
    assume(mine <= theirs)
    assert not decided(mine, theirs, ece, gate).promote


@given(COUNTS, COUNTS, ECES, GATES)
def test_of_two_models_at_most_one_may_replace_the_other(
    mine: int, theirs: int, ece: float, gate: Gate
) -> None:
    """And p is the same for both."""
    either = decided(mine, theirs, ece, gate), decided(theirs, mine, ece, gate)
    assert not all(decision.promote for decision in either)
    assert either[0].p_value == either[1].p_value


@given(COUNTS, COUNTS, st.integers(0, 100), GATES)
def test_more_right_answers_never_turn_a_promotion_down(
    mine: int, theirs: int, more: int, gate: Gate
) -> None:
    """The gate is monotone in what each alone got right."""
    if decided(mine, theirs, gate=gate).promote:
        assert decided(mine + more, theirs, gate=gate).promote
        assert decided(mine, max(0, theirs - more), gate=gate).promote


@given(COUNTS, COUNTS, ECES, ECES, GATES)
def test_better_calibration_never_turns_a_promotion_down(
    mine: int, theirs: int, one: float, other: float, gate: Gate
) -> None:
    """With a champion and without."""
    better, worse = sorted((one, other))
    assert decided(mine, theirs, better, gate).promote >= decided(mine, theirs, worse, gate).promote
    assert first(mine / 300, better, gate).promote >= first(mine / 300, worse, gate).promote


@given(st.floats(0, 1), st.floats(0, 1), GATES)
def test_a_more_accurate_first_champion_is_never_refused_for_it(one: float, other: float, gate: Gate) -> None:
    """The gate is monotone in the accuracy, too."""
    assert first(max(one, other), gate=gate).promote >= first(min(one, other), gate=gate).promote
