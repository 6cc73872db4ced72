"""`mnist-ops models`: what it prints for people and for machines, and what it changes."""

import getpass
import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mnist_ops import wiring
from mnist_ops.adapters.memory.registries import InMemoryModels
from mnist_ops.cli import main
from mnist_ops.cli._support.exit_codes import ExitCode
from mnist_ops.domain.gate import Decision
from mnist_ops.domain.ports import RegisteredModel
from mnist_ops.domain.records import BundleRef
from tests.support.pipeline_in_memory import AT, MODEL, Pipeline

Run = Callable[..., tuple[int, str, str]]

REFUSED = Decision(promote=False, why="refused, no better than the champion: p = 0.5", p_value=0.5)
PASSED = Decision(promote=True, why="better than the champion: p = 0.001", p_value=0.001)


@pytest.fixture
def pipeline(released: Pipeline) -> Pipeline:
    """Version 1 is champion; the gate refused version 2 and let version 3 pass."""
    pipeline = released.copy()
    champion = pipeline.models.champion(MODEL)
    for version, result in ((2, REFUSED), (3, PASSED)):
        decision = replace(result, compared_with=champion)
        training = f"memory://objects/trainings/{version}"
        assert pipeline.models.reserve(MODEL, training) == version
        bundle = BundleRef(MODEL, version, f"memory://objects/models/{version}", f"sha256:{version}")
        metrics = {"test_accuracy": 0.5, "test_ece": 0.25, "test_samples": 80.0}
        pipeline.models.register(RegisteredModel(bundle, training, metrics, AT, decision))
    return pipeline


@pytest.fixture
def run(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs `mnist-ops models …` over that pipeline; gives exit code, output and errors."""
    monkeypatch.setattr(wiring, "adapters_of_environment", lambda settings, _: pipeline.adapters(settings))
    monkeypatch.setenv("COLUMNS", "160")

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mnist-ops", "models", *map(str, arguments)])
        with pytest.raises(SystemExit) as exited:
            main()
        captured = capfd.readouterr()
        return int(exited.value.code or 0), captured.out, captured.err

    return run


def _facts(out: str) -> dict[str, str]:
    """The names and values that `models show` prints in two columns."""
    return dict(re.split(r"  +", line, maxsplit=1) for line in out.splitlines() if "  " in line)


def _listed(run: Run) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run("list", "--json")[1].splitlines()]


def test_the_list_has_a_line_for_each_version(run: Run) -> None:
    """With its status, accuracy, release date and the gate's result."""
    code, out, _ = run("list")
    lines = [line.split() for line in out.splitlines()[2:]]
    assert code == 0
    assert [line[:2] for line in lines] == [["1", "champion"], ["2", "candidate"], ["3", "candidate"]]
    assert [" ".join(line[-4:]) for line in lines[1:]] == ["refused, p = 0.5", "passed, p = 0.001"]
    assert lines[1][2] == "0.5000"
    assert "2026-01-31" in lines[0]


def test_the_json_list_has_an_object_for_each_version(run: Run) -> None:
    """It includes the accuracy with its interval."""
    first, second, _ = _listed(run)
    compared = {name: first[name] for name in ("name", "version", "uri", "digest")}
    metrics = first["metrics"]
    assert metrics["test_accuracy_low"] < metrics["test_accuracy"] < metrics["test_accuracy_high"]
    assert (first["version"], first["status"], first["released_at"]) == (1, "champion", AT.isoformat())
    assert second["decision"] == {
        "promote": False,
        "why": REFUSED.why,
        "p_value": 0.5,
        "compared_with": compared,
    }


def test_before_the_first_release_the_list_says_that_there_is_none(run: Run, pipeline: Pipeline) -> None:
    """It is not an error."""
    pipeline.models = InMemoryModels()
    assert run("list")[:2] == (0, f"no {MODEL} was released yet\n")


def test_a_version_is_shown_with_its_card_and_its_history(run: Run, pipeline: Pipeline) -> None:
    """For people, and for machines."""
    champion = pipeline.models.champion(MODEL)
    assert champion is not None
    code, out, _ = run("show", 1)
    assert code == 0
    facts = _facts(out)
    assert facts["digest"] == champion.digest
    assert facts["the gate"].startswith("good enough as the first champion: accuracy ")
    assert "promotion of 1 by the tests: good enough" in out.splitlines()[-1]
    shown = json.loads(run("show", 1, "--json")[1])
    assert shown["card"]["hyperparameters"]["batch_size"] == 32
    (change,) = shown["history"]
    assert (change["action"], change["champion"], change["former"]) == ("promotion", 1, None)


def test_a_version_is_shown_with_what_it_was_compared_with(run: Run, pipeline: Pipeline) -> None:
    """By version and digest; the first was compared with none."""
    second = BundleRef(MODEL, 2, "memory://objects/models/2", "sha256:2")
    decisions = {
        "no champion": Decision(promote=True, why="first", p_value=None),
        f"{MODEL} 2, sha256:2": replace(PASSED, compared_with=second),
    }
    (first, *_) = pipeline.models.models(MODEL)
    for champion, decision in decisions.items():
        pipeline.models.register(replace(first, decision=decision))
        assert _facts(run("show", 1)[1])["compared with"] == champion


def test_a_version_that_was_compared_with_a_former_champion_needs_force(run: Run, pipeline: Pipeline) -> None:
    """Both are named, and nothing changes."""
    run("promote", 2, "--why", "I like it", "--force")
    code, _, err = run("promote", 3, "--why", "it passed")
    former = pipeline.models.history(MODEL)[0].former
    assert former is not None
    assert code == ExitCode.PERMANENT
    assert f"compared with version 1 ({former.digest}), and the champion is version 2 (sha256:2)" in err
    assert _listed(run)[1]["status"] == "champion"
    assert run("promote", 3, "--why", "it passed", "--force")[0] == 0


def test_an_unknown_version_is_refused_with_the_released_ones(run: Run) -> None:
    """One line."""
    code, _, err = run("show", 7)
    assert code == ExitCode.USAGE
    assert err == f"error: {MODEL} has no version 7; released are: 1, 2, 3\n"


def test_a_version_that_passed_is_promoted_with_who_and_why(run: Run, pipeline: Pipeline) -> None:
    """The former champion is listed as former."""
    assert run("promote", 3, "--why", "looked at it")[:2] == (0, f"{MODEL} 3 is the champion\n")
    newest = pipeline.models.history(MODEL)[0].promotion
    assert (newest.who, newest.why) == (getpass.getuser(), "looked at it")
    assert [version["status"] for version in _listed(run)] == ["former", "candidate", "champion"]


def test_a_refused_version_is_promoted_only_by_force(run: Run, pipeline: Pipeline) -> None:
    """Without --force the gate's numbers are printed, and nothing changes."""
    code, _, err = run("promote", 2, "--why", "I like it")
    assert (code, err) == (
        ExitCode.PERMANENT,
        f"error: {MODEL} 2: {REFUSED.why}; --force promotes it anyway\n",
    )
    assert _listed(run)[0]["status"] == "champion"
    code, out, _ = run("promote", 2, "--why", "I like it", "--force", "--json")
    assert (code, json.loads(out)) == (0, {"name": MODEL, "champion": 2})
    assert pipeline.models.history(MODEL)[0].promotion.why == "I like it"


def test_a_rollback_restores_the_former_champion(run: Run, pipeline: Pipeline) -> None:
    """Without a former champion it is refused."""
    run("promote", 3, "--why", "better")
    assert run("rollback", "--why", "it is not")[:2] == (0, f"{MODEL} 1 is the champion again\n")
    assert pipeline.models.history(MODEL)[0].promotion.why == "it is not"
    code, _, err = run("rollback", "--why", "further")
    assert (code, err) == (
        ExitCode.PERMANENT,
        f"error: {MODEL}: there is no former champion to roll back to\n",
    )


@pytest.mark.parametrize("command", [("promote", 3), ("rollback",)])
def test_a_change_of_the_champion_needs_a_reason(run: Run, command: tuple[object, ...]) -> None:
    """Without --why it is a usage error."""
    code, _, err = run(*command)
    assert code == 2
    assert "--why" in err
