"""An audit's result from the answers so far, and the rate of a reviewer."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from mnist_ops.domain.audit import AuditedStratum, accuracy_of
from mnist_ops.domain.drawn_audits import AuditAnswer, DrawnAudit, DrawnPrediction, StratumResult
from mnist_ops.domain.keys import Generation
from mnist_ops.domain.reviewing import GivenAnswer, answers_an_hour

AT = datetime(2026, 2, 1, tzinfo=UTC)
RUN = Generation("classify_records/one")


def drawn(stratum: str, *answers: str | None) -> list[DrawnPrediction]:
    """Predictions of "seven", each with an answer; "" for one that nobody has looked at."""
    one = DrawnPrediction("1", stratum, "https://images.example/1.png", "ab" * 32, RUN, "seven", 0.9)
    return [
        replace(one, answer=None if answer == "" else AuditAnswer(answer, "ada", AT)) for answer in answers
    ]


def audit(*sample: DrawnPrediction) -> DrawnAudit:
    """An audit of two strata."""
    records = {"sure": 900, "unsure": 100}
    return DrawnAudit("one", 7, "confidence", records, (RUN,), ("seven", "nine"), sample, "ada", AT)


def test_the_accuracy_so_far_is_that_of_the_answers_so_far() -> None:
    """Each stratum counts by its predictions; an answer that no label fits is a wrong prediction."""
    begun = audit(*drawn("sure", "seven", "seven", ""), *drawn("unsure", "nine", None, "seven", ""))
    assert begun.results() == [StratumResult("sure", 900, 3, 2, 0), StratumResult("unsure", 100, 4, 3, 2)]
    assert begun.estimate() == accuracy_of([AuditedStratum(900, 2, 0), AuditedStratum(100, 3, 2)])
    assert (begun.answered, begun.wrong, begun.complete) == (5, 2, False)


def test_there_is_no_accuracy_while_a_stratum_has_no_answer() -> None:
    """Nothing is known of its predictions."""
    assert audit(*drawn("sure", "seven"), *drawn("unsure", "")).estimate() is None


def test_an_audit_is_complete_when_every_drawn_prediction_has_an_answer() -> None:
    """Also where no label fits."""
    assert audit(*drawn("sure", "seven"), *drawn("unsure", None)).complete


def test_the_rate_of_a_reviewer_is_that_from_the_first_answer_to_the_last() -> None:
    """Four answers, five minutes apart."""
    answers = [GivenAnswer("1", "ada", AT + timedelta(minutes=5 * number)) for number in range(4)]
    assert answers_an_hour(answers[::-1]) == pytest.approx(12)


@pytest.mark.parametrize("seconds", [[], [0], [0, 0]])
def test_there_is_no_rate_without_time_between_answers(seconds: list[int]) -> None:
    """Nothing is divided by zero."""
    assert answers_an_hour([GivenAnswer("1", "ada", AT + timedelta(seconds=at)) for at in seconds]) is None
