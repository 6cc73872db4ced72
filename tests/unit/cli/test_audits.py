"""`mnist-ops audits draw`, `list` and `show`, on stores in memory."""

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner, Result

from mnist_ops import wiring
from mnist_ops.cli import app
from mnist_ops.domain.drawn_audits import AuditAnswer
from mnist_ops.domain.errors import UsageError
from tests.support.reviewed_runs import ReviewedRuns


@pytest.fixture
def reviewed(monkeypatch: pytest.MonkeyPatch) -> ReviewedRuns:
    """Six predicted records."""
    runs = ReviewedRuns()
    runs.run(range(6))
    monkeypatch.setattr(
        wiring,
        "adapters_of_environment",
        lambda settings, _: replace(runs.steps.adapters, settings=settings),
    )
    return runs


def mnist_ops(*words: str) -> Result:
    """Run a command of `audits`."""
    return CliRunner().invoke(app, ["audits", *words])


@pytest.mark.parametrize("source", [("--run", "one"), ("--since", "2020-01-01"), ()])
def test_an_audit_is_drawn_from_a_run_or_since_a_time(
    reviewed: ReviewedRuns, source: tuple[str, ...]
) -> None:
    """And stored, for the page."""
    output = mnist_ops("draw", "--size", "4", "--strata", "none", *source).output
    (audit,) = reviewed.steps.adapters.audits.newest(2)
    assert output.splitlines()[0] == f"audit {audit.id}: 4 of 6 predictions drawn"


def test_an_audit_is_shown_with_what_people_answered(reviewed: ReviewedRuns) -> None:
    """It says that it is not complete."""
    drawn = json.loads(mnist_ops("draw", "--size", "4", "--strata", "none", "--json").output)
    audits = reviewed.steps.adapters.audits
    for position, label in enumerate(("seven", "three", None)):
        audits.answer(drawn["audit"], position, AuditAnswer(label, "ada", reviewed.clock()))
    shown = json.loads(mnist_ops("show", "--json").output)
    assert (shown["answered"], shown["wrong"], shown["complete"]) == (3, 2, False)
    assert shown["accuracy"] == pytest.approx(1 / 3)
    lines = mnist_ops("show", drawn["audit"]).output
    assert "3 of 4, 2 predicted otherwise" in lines
    assert "not complete  1 drawn predictions have no answer" in lines
    audits.answer(drawn["audit"], 3, AuditAnswer("seven", "ada", reviewed.clock()))
    assert "accuracy" in mnist_ops("show").output
    assert "50.00%" in mnist_ops("list").output


@pytest.mark.usefixtures("reviewed")
def test_before_the_first_audit_the_commands_say_so() -> None:
    """And how one is drawn."""
    assert mnist_ops("list").output == "no audit yet; mnist-ops audits draw draws one\n"
    assert isinstance(mnist_ops("show").exception, UsageError)
    assert "no audit one" in str(mnist_ops("show", "one").exception)


@pytest.mark.usefixtures("reviewed")
def test_a_run_and_a_time_are_not_given_together() -> None:
    """Either names the predictions."""
    error = mnist_ops("draw", "--run", "one", "--since", "today").exception
    assert "--run and --since cannot both be given" in str(error)
