"""Released models and finished trainings as rows, lines and JSON documents."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from mnist_ops.cli._support.tables import print_facts, print_json
from mnist_ops.domain.champions import ChampionChange, standing_of
from mnist_ops.domain.gate import Decision
from mnist_ops.domain.ports import RegisteredModel

if TYPE_CHECKING:
    from mnist_ops.steps.evaluate import Comparison
    from mnist_ops.steps.promote import GateResult

COLUMNS = ("version", "status", "accuracy", "95 % interval", "ECE", "digits", "released", "the gate")
RIGHT = frozenset({"version", "ECE", "digits"})


def document(model: RegisteredModel, history: Sequence[ChampionChange]) -> dict[str, object]:
    bundle, decision = model.bundle, model.decision
    return {
        "name": bundle.name,
        "version": bundle.version,
        "status": standing_of(model.bundle, history),
        "metrics": dict(model.metrics),
        "released_at": model.released_at.isoformat(),
        "decision": asdict(decision) if decision else None,
        "uri": bundle.uri,
        "digest": bundle.digest,
        "training": model.training,
    }


def change_document(change: ChampionChange) -> dict[str, object]:
    return {
        "action": str(change.action),
        "champion": change.bundle.version,
        "former": change.former.version if change.former else None,
        "at": change.promotion.at.isoformat(),
        "who": change.promotion.who,
        "why": change.promotion.why,
    }


def row(model: RegisteredModel, history: Sequence[ChampionChange]) -> list[str]:
    low, high = (_metric(model, f"test_accuracy_{end}", ".4f") for end in ("low", "high"))
    return [
        str(model.bundle.version),
        standing_of(model.bundle, history),
        _metric(model, "test_accuracy", ".4f"),
        f"{low} to {high}",
        _metric(model, "test_ece", ".4f"),
        _metric(model, "test_samples", ".0f"),
        f"{model.released_at:%Y-%m-%d %H:%M}",
        _gate_result(model.decision),
    ]


def _gate_result(decision: Decision | None) -> str:
    if decision is None:
        return "not asked"
    result = "passed" if decision.promote else "refused"
    return result if decision.p_value is None else f"{result}, p = {decision.p_value:.3g}"


def _metric(model: RegisteredModel, name: str, form: str) -> str:
    return format(model.metrics[name], form) if name in model.metrics else "?"


def facts(
    model: RegisteredModel, history: Sequence[ChampionChange], summary: Mapping[str, object]
) -> Iterator[tuple[str, str]]:
    """Names and values of what `models show` prints."""
    yield "model", f"{model.bundle.name} {model.bundle.version}"
    yield "status", standing_of(model.bundle, history)
    yield "the gate", model.decision.why if model.decision else "was not asked"
    if model.decision:
        champion = model.decision.compared_with
        described = f"{champion.name} {champion.version}, {champion.digest}" if champion else "no champion"
        yield "compared with", described
    yield "released", f"{model.released_at:%Y-%m-%d %H:%M:%S} UTC"
    yield "bundle", model.bundle.uri
    yield "digest", model.bundle.digest
    yield "training", model.training
    for name in model.metrics:
        yield name.replace("_", " "), _metric(model, name, ".6g")
    for name, value in summary.items():
        yield name, json.dumps(value, sort_keys=True)


def change_line(change: ChampionChange) -> str:
    after = f" after {change.former.version}" if change.former else ""
    promotion = change.promotion
    moment = f"{promotion.at:%Y-%m-%d %H:%M:%S}"
    return f"{moment} {change.action} of {change.bundle.version}{after} by {promotion.who}: {promotion.why}"


def print_gate_result(result: "GateResult", *, as_json: bool) -> None:
    """Print a released model, the gate's decision about it, and whether it is the champion now."""
    if as_json:
        print_json(result.document())
        return
    bundle = result.bundle
    facts = {
        "model": f"{bundle.name} {bundle.version}",
        "status": "champion" if result.promoted else "candidate",
        "the gate": result.why,
        "bundle": bundle.uri,
        "digest": bundle.digest,
    }
    print_facts(facts.items())
    if result.promote and not result.promoted:
        typer.echo(f'to make it the champion: mnist-ops models promote {bundle.version} --why "…"')


def measures(comparison: "Comparison") -> Iterator[tuple[str, str]]:
    """Names and values of the measures on the test fold."""
    from mnist_ops.vision.data.folds import Fold

    test, uncalibrated = comparison.challenger[Fold.TEST], comparison.uncalibrated[Fold.TEST]
    interval = f"95 %: {test.accuracy_low:.4f} to {test.accuracy_high:.4f}"
    yield "accuracy", f"{test.accuracy:.4f} ({test.correct} of {test.samples}; {interval})"
    yield "NLL", f"{test.nll:.4f}"
    yield "Brier", f"{test.brier:.4f}"
    yield "ECE", f"{test.ece:.4f} ({uncalibrated.ece:.4f} before temperature)"
    yield "temperature", f"{comparison.temperature:.4f}"
    if comparison.champion and comparison.champion_test:
        accuracy = comparison.champion_test.accuracy
        yield "champion", f"version {comparison.champion.version}: accuracy {accuracy:.4f}"
