"""Released models: `mnist-ops models list|show|promote|rollback`."""

import getpass
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from mnist_ops.cli._support.options import pipeline
from mnist_ops.cli._support.tables import print_facts, print_table
from mnist_ops.domain.champions import ChampionChange, Promotion
from mnist_ops.domain.errors import Permanent
from mnist_ops.domain.gate import Decision
from mnist_ops.domain.ports import RegisteredModel
from mnist_ops.pipeline import Ports

app = typer.Typer(help="Released models, and which one is the champion.", no_args_is_help=True)

Version = Annotated[int, typer.Argument(min=1, help="The version, as `models list` shows it.")]
Why = Annotated[str, typer.Option(help="Kept in the history with your name.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_COLUMNS = ("version", "status", "accuracy", "95 % interval", "ECE", "digits", "released", "the gate")
_RIGHT = frozenset({"version", "ECE", "digits"})
_CARD_FIELDS = ("architecture", "hyperparameters", "temperature", "dataset_digest")


@app.command("list")
def list_models(as_json: Json = False) -> None:
    """List all versions, oldest first; with --json one object for each line."""
    adapters = pipeline().adapters
    name = adapters.settings.model_name
    history = adapters.models.history(name)
    registered = adapters.models.models(name)
    if as_json:
        for model in registered:
            typer.echo(json.dumps(_document(model, history), sort_keys=True))
        return
    if not registered:
        typer.echo(f"no {name} was released yet")
        return
    print_table(_COLUMNS, [_row(model, history) for model in registered], right=_RIGHT, title=name)


@app.command()
def show(version: Version, as_json: Json = False) -> None:
    """Show a version: its training, its metrics, and its history as champion."""
    from mnist_ops.steps.artifacts.bundles import read_card

    adapters = pipeline().adapters
    model = _model(adapters, version)
    history = adapters.models.history(model.bundle.name)
    card = read_card(adapters.objects, model.bundle)
    summary = {name: card.get(name) for name in _CARD_FIELDS}
    changes = [change for change in history if model.bundle in (change.bundle, change.former)]
    if as_json:
        extra = {"card": summary, "history": [_change_document(change) for change in changes]}
        typer.echo(json.dumps(_document(model, history) | extra, sort_keys=True))
        return
    print_facts(_facts(model, history, summary))
    for change in changes:
        typer.echo(_change_line(change))


@app.command()
def promote(
    version: Version,
    why: Why,
    force: Annotated[
        bool,
        typer.Option("--force", help="Even if the gate refused it, or compared it with another champion."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a version the champion. If the gate refused it, --force is needed."""
    steps = pipeline()
    model = _model(steps.adapters, version)
    changed = steps.promote_version(model, Promotion(steps.now(), getpass.getuser(), why), force=force)
    state = "is the champion" if changed else "was the champion already"
    _print_champion(model.bundle.name, version, state, as_json=as_json)


@app.command()
def rollback(why: Why, as_json: Json = False) -> None:
    """Restore the previous champion; each repetition goes one further back."""
    steps = pipeline()
    promotion = Promotion(steps.now(), getpass.getuser(), why)
    restored = steps.adapters.models.rollback(steps.settings.model_name, promotion)
    _print_champion(restored.name, restored.version, "is the champion again", as_json=as_json)


def _print_champion(name: str, version: int, state: str, *, as_json: bool) -> None:
    champion = {"name": name, "champion": version}
    typer.echo(json.dumps(champion) if as_json else f"{name} {version} {state}")


def _model(adapters: Ports, version: int) -> RegisteredModel:
    name = adapters.settings.model_name
    models = {model.bundle.version: model for model in adapters.models.models(name)}
    if version not in models:
        known = ", ".join(map(str, models)) or "none"
        raise Permanent(f"{name} has no version {version}; released are: {known}")
    return models[version]


def _document(model: RegisteredModel, history: Sequence[ChampionChange]) -> dict[str, object]:
    bundle, decision = model.bundle, model.decision
    return {
        "name": bundle.name,
        "version": bundle.version,
        "status": _status(model, history),
        "metrics": dict(model.metrics),
        "released_at": model.released_at.isoformat(),
        "decision": asdict(decision) if decision else None,
        "uri": bundle.uri,
        "digest": bundle.digest,
        "training": model.training,
    }


def _status(model: RegisteredModel, history: Sequence[ChampionChange]) -> str:
    if history and history[0].bundle == model.bundle:
        return "champion"
    return "former" if any(change.bundle == model.bundle for change in history) else "candidate"


def _change_document(change: ChampionChange) -> dict[str, object]:
    return {
        "action": str(change.action),
        "champion": change.bundle.version,
        "former": change.former.version if change.former else None,
        "at": change.promotion.at.isoformat(),
        "who": change.promotion.who,
        "why": change.promotion.why,
    }


def _row(model: RegisteredModel, history: Sequence[ChampionChange]) -> list[str]:
    low, high = (_metric(model, f"test_accuracy_{end}", ".4f") for end in ("low", "high"))
    return [
        str(model.bundle.version),
        _status(model, history),
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


def _facts(
    model: RegisteredModel, history: Sequence[ChampionChange], summary: Mapping[str, object]
) -> Iterator[tuple[str, str]]:
    """Names and values of what `models show` prints."""
    yield "model", f"{model.bundle.name} {model.bundle.version}"
    yield "status", _status(model, history)
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


def _change_line(change: ChampionChange) -> str:
    after = f" after {change.former.version}" if change.former else ""
    promotion = change.promotion
    moment = f"{promotion.at:%Y-%m-%d %H:%M:%S}"
    return f"{moment} {change.action} of {change.bundle.version}{after} by {promotion.who}: {promotion.why}"
