"""Released models: `mnist-ops models list|show|promote|rollback`."""

import getpass
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from mnist_ops.cli._support.options import now, pipeline
from mnist_ops.domain.champions import ChampionChange, Promotion
from mnist_ops.domain.errors import Permanent
from mnist_ops.domain.gate import Decision
from mnist_ops.domain.ports import RegisteredModel

if TYPE_CHECKING:
    from mnist_ops.pipeline import Ports

app = typer.Typer(help="Released models, and which of them is in production.", no_args_is_help=True)

Version = Annotated[int, typer.Argument(min=1, help="The version, as `models list` shows it.")]
Why = Annotated[str, typer.Option(help="Kept in the history with your name.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_COLUMNS = ("version", "status", "accuracy", "95 % interval", "ECE", "digits", "released", "the gate")
_RIGHT = frozenset({"version", "ECE", "digits"})
_SHOWN_OF_CARD = ("architecture", "hyperparameters", "temperature", "dataset_digest")


@app.command("list")
def list_models(as_json: Json = False) -> None:
    """List all versions, oldest first; in JSON one object a line."""
    adapters = pipeline().adapters
    name = adapters.settings.model_name
    history = adapters.models.history(name)
    registered = adapters.models.models(name)
    if as_json:
        for model in registered:
            typer.echo(json.dumps(_described(model, history), sort_keys=True))
        return
    _print_table([_row(model, history) for model in registered], title=name)


@app.command()
def show(version: Version, as_json: Json = False) -> None:
    """Show a version: where it comes from, what it measured, and its history as champion."""
    from mnist_ops.steps.artifacts.bundles import read_card

    adapters = pipeline().adapters
    model = _model(adapters, version)
    history = adapters.models.history(model.bundle.name)
    card = read_card(adapters.objects, model.bundle)
    summary = {name: card.get(name) for name in _SHOWN_OF_CARD}
    mine = [change for change in history if model.bundle in (change.bundle, change.former)]
    if as_json:
        extra = {"card": summary, "history": [_change(change) for change in mine]}
        typer.echo(json.dumps(_described(model, history) | extra, sort_keys=True))
        return
    for name, value in _facts(model, history, summary):
        typer.echo(f"{name:<18} {value}")
    for change in mine:
        typer.echo(_change_line(change))


@app.command()
def promote(
    version: Version,
    why: Why,
    force: Annotated[
        bool,
        typer.Option("--force", help="Although the gate refused it, or judged it beside another champion."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a version the champion; only with --force where the gate did not let it pass."""
    steps = pipeline()
    model = _model(steps.adapters, version)
    changed = steps.promote_version(model, Promotion(now(), getpass.getuser(), why), force=force)
    word = "is the champion" if changed else "was the champion already"
    _told(model.bundle.name, version, word, as_json=as_json)


@app.command()
def rollback(why: Why, as_json: Json = False) -> None:
    """Restore the champion before the present one; once more goes further back."""
    adapters = pipeline().adapters
    promotion = Promotion(now(), getpass.getuser(), why)
    restored = adapters.models.rollback(adapters.settings.model_name, promotion)
    _told(restored.name, restored.version, "is the champion again", as_json=as_json)


def _told(name: str, version: int, word: str, *, as_json: bool) -> None:
    champion = {"name": name, "champion": version}
    typer.echo(json.dumps(champion) if as_json else f"{name} {version} {word}")


def _model(adapters: "Ports", version: int) -> RegisteredModel:
    name = adapters.settings.model_name
    models = {model.bundle.version: model for model in adapters.models.models(name)}
    if version not in models:
        known = ", ".join(map(str, models)) or "none"
        raise Permanent(f"{name} has no version {version}; released are: {known}")
    return models[version]


def _described(model: RegisteredModel, history: Sequence[ChampionChange]) -> dict[str, object]:
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


def _change(change: ChampionChange) -> dict[str, object]:
    return {
        "action": str(change.action),
        "champion": change.bundle.version,
        "former": change.former.version if change.former else None,
        "at": change.promotion.at.isoformat(),
        "who": change.promotion.who,
        "why": change.promotion.why,
    }


def _row(model: RegisteredModel, history: Sequence[ChampionChange]) -> list[str]:
    low, high = (_figure(model, f"test_accuracy_{end}", ".4f") for end in ("low", "high"))
    return [
        str(model.bundle.version),
        _status(model, history),
        _figure(model, "test_accuracy", ".4f"),
        f"{low} to {high}",
        _figure(model, "test_ece", ".4f"),
        _figure(model, "test_samples", ".0f"),
        f"{model.released_at:%Y-%m-%d %H:%M}",
        _said(model.decision),
    ]


def _said(decision: Decision | None) -> str:
    if decision is None:
        return "not asked"
    said = "passed" if decision.promote else "refused"
    return said if decision.p_value is None else f"{said}, p = {decision.p_value:.3g}"


def _compared(decision: Decision) -> str:
    champion = decision.compared_with
    if champion is None:
        return "no champion"
    return f"{champion.name} {champion.version}, {champion.digest}"


def _figure(model: RegisteredModel, name: str, form: str) -> str:
    return format(model.metrics[name], form) if name in model.metrics else "?"


def _facts(
    model: RegisteredModel, history: Sequence[ChampionChange], summary: Mapping[str, object]
) -> Iterator[tuple[str, str]]:
    """A version for people: names of facts, and facts."""
    yield "model", f"{model.bundle.name} {model.bundle.version}"
    yield "status", _status(model, history)
    yield "the gate", model.decision.why if model.decision else "was not asked"
    if model.decision:
        yield "compared with", _compared(model.decision)
    yield "released", f"{model.released_at:%Y-%m-%d %H:%M:%S} UTC"
    yield "bundle", model.bundle.uri
    yield "digest", model.bundle.digest
    yield "training", model.training
    for name in model.metrics:
        yield name.replace("_", " "), _figure(model, name, ".6g")
    for name, value in summary.items():
        yield name, json.dumps(value, sort_keys=True)


def _change_line(change: ChampionChange) -> str:
    after = f" after {change.former.version}" if change.former else ""
    promotion = change.promotion
    moment = f"{promotion.at:%Y-%m-%d %H:%M:%S}"
    return f"{moment} {change.action} of {change.bundle.version}{after} by {promotion.who}: {promotion.why}"


def _print_table(rows: Sequence[Sequence[str]], title: str) -> None:
    from rich.console import Console
    from rich.table import Table

    if not rows:
        typer.echo(f"no {title} was released yet")
        return
    table = Table(title=title, box=None)
    for column in _COLUMNS:
        table.add_column(column, justify="right" if column in _RIGHT else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
