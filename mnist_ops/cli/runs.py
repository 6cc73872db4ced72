"""Runs: `mnist-ops runs classify|resume|train` without Airflow, `list|show|release-hold` for all runs."""

import getpass
import json
from collections.abc import Mapping
from typing import Annotated

import typer

from mnist_ops.cli._support.command_groups import command_group
from mnist_ops.cli._support.extras import require_extras
from mnist_ops.cli._support.ledger_text import summary_of, text
from mnist_ops.cli._support.model_tables import print_gate_result
from mnist_ops.cli._support.options import (
    Again,
    Changes,
    ConfigName,
    Json,
    Limit,
    Publish,
    Since,
    Until,
    pipeline,
    raw_config,
    selection,
)
from mnist_ops.cli._support.run_progress import Progress, new_generation, progress_of
from mnist_ops.domain.errors import Damaged, ObjectMissing
from mnist_ops.domain.keys import Generation
from mnist_ops.domain.selection import Selection
from mnist_ops.pipeline import Pipeline

app = command_group("Run the whole pipeline here, and look at all runs.")


@app.command()
def classify(
    since: Since = None,
    until: Until = None,
    reclassify: Again = "never",
    limit: Limit = None,
    dry_run: Annotated[bool, typer.Option(help="Only count what would be taken.")] = False,
    publish: Publish = True,
) -> None:
    """Label waiting records: snapshot, fetch, classify, assess, publish, reconcile."""
    steps = pipeline()
    chosen = selection(since, until, reclassify, limit)
    if dry_run:
        typer.echo(f"{steps.count(chosen)} records would be taken")
        return
    manifest = steps.snapshot(new_generation(), chosen)
    option = "" if publish else " --no-publish"
    typer.echo(f"if it is interrupted: mnist-ops runs resume {manifest}{option}", err=True)
    _finish_run(steps, manifest, publish=publish)


@app.command()
def resume(
    manifest: Annotated[str, typer.Argument(help="The manifest that `runs classify` printed.")],
    publish: Publish = True,
) -> None:
    """Continue an interrupted `runs classify`: do only what is missing, and write its predictions."""
    _finish_run(pipeline(), manifest, publish=publish)


def _finish_run(steps: Pipeline, manifest: str, *, publish: bool) -> None:
    """Do what is missing of a run after its snapshot, and print its outcomes."""
    progress = progress_of(steps, manifest)
    if progress.ledger is not None:
        _print_outcomes(progress.ledger)
        return
    predictions = _predictions(steps, progress)
    typer.echo(json.dumps({"manifest": manifest, "predictions": predictions}))
    if not publish:
        return
    assessment = steps.assess(manifest, predictions)
    ledger = steps.reconcile(manifest, [steps.publish(uri, assessment) for uri in predictions])
    _print_outcomes(ledger.document())


def _print_outcomes(ledger: Mapping[str, object]) -> None:
    typer.echo(json.dumps({name: ledger[name] for name in ("run", "outcomes", "reasons")}))


def _predictions(steps: Pipeline, progress: Progress) -> list[str]:
    """The prediction shards of all parts, in order; the missing ones are made."""
    predictions = dict(progress.predictions)
    with steps.adapters.images() as images:
        for part, reference in progress.parts.items():
            if part in progress.images and part not in predictions:
                try:
                    predictions[part] = steps.classify(progress.images[part])
                except (ObjectMissing, Damaged) as error:
                    typer.echo(f"part {part} is fetched again: {error}", err=True)
            if part not in predictions:
                predictions[part] = steps.classify(steps.fetch(reference, images=images))
    return [predictions[part] for part in progress.parts]


@app.command()
def train(config: ConfigName = None, changes: Changes = None, as_json: Json = False) -> None:
    """Train on the labelled records and release: snapshot, fetch, build, train, evaluate, release.

    If the config has a sweep, all its trials are trained, and the one that validates best is released.
    """
    require_extras("runs train", "train")
    from mnist_ops.cli._support.trials import best_training

    trials = raw_config(config, changes).trials()
    steps = pipeline()
    manifest = steps.snapshot(new_generation(), Selection(at=steps.now(), labelled=True))
    parts = steps.parts(manifest)
    if not parts:
        typer.echo("no record has a human label, so there is nothing to train on")
        return
    reuse = steps.adapters.datasets.newest_dataset()
    with steps.adapters.images() as images:
        shards = [steps.fetch(part, images=images, reuse_dataset=reuse) for part in parts]
    training = best_training(steps, steps.build_dataset(manifest, shards), trials)
    candidate = steps.release_and_promote(steps.evaluate(training), getpass.getuser())
    print_gate_result(candidate, as_json=as_json)


@app.command("list")
def list_runs(
    prefix: Annotated[str, typer.Argument(help="The first characters of run keys; by default all.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """List the ledgers of all runs, oldest first: outcomes, cost and bottleneck."""
    for ledger in pipeline().adapters.runs.ledgers(prefix):
        typer.echo(json.dumps(ledger, default=text, sort_keys=True) if as_json else summary_of(ledger))


@app.command()
def release_hold(
    run: Annotated[str, typer.Argument(help="The run key, from the log of the held run.")],
    why: Annotated[str, typer.Option(help="The reason, which is kept with your name.")],
    generation: Annotated[int, typer.Option(min=0, help="The generation.")] = 0,
) -> None:
    """Allow a held run to be published. Afterwards, clear its task `assess` in Airflow."""
    steps = pipeline()
    held = Generation(run, generation)
    steps.adapters.runs.release_hold(held, getpass.getuser(), why, steps.now())
    typer.echo(f"{run}/{generation} may be published: clear its task assess")
