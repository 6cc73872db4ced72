"""Runs: `mnist-ops runs classify|resume|train` without Airflow, `list|show|release-hold` for all runs."""

import getpass
from typing import Annotated

import typer

from mnist_ops.cli._support import ledger_tables
from mnist_ops.cli._support.command_groups import command_group
from mnist_ops.cli._support.extras import require_extras
from mnist_ops.cli._support.ledger_tables import print_ledger
from mnist_ops.cli._support.model_tables import print_gate_result
from mnist_ops.cli._support.options import (
    Again,
    Changes,
    ConfigName,
    GenerationNumber,
    Json,
    Limit,
    Publish,
    Since,
    Until,
    pipeline,
    raw_config,
    selection,
)
from mnist_ops.cli._support.run_names import find_commit, find_ledger, ledgers_of, readable_run
from mnist_ops.cli._support.run_progress import new_generation
from mnist_ops.cli._support.tables import print_json, print_table
from mnist_ops.cli._support.whole_runs import finish_run
from mnist_ops.domain.keys import Generation, is_of_cli
from mnist_ops.domain.selection import Selection

app = command_group("Run the whole pipeline here, and look at all runs.")

Run = Annotated[
    str, typer.Argument(metavar="RUN", help="A run key or an Airflow run id, or its unique beginning.")
]


@app.command()
def classify(  # noqa: PLR0913, PLR0917 (one for each option)
    since: Since = None,
    until: Until = None,
    reclassify: Again = "never",
    limit: Limit = None,
    dry_run: Annotated[bool, typer.Option(help="Only count what would be taken.")] = False,
    publish: Publish = True,
    as_json: Json = False,
) -> None:
    """Label waiting records: snapshot, fetch, classify, assess, publish, reconcile."""
    steps = pipeline()
    chosen = selection(since, until, reclassify, limit)
    if dry_run:
        _print_count(steps.count(chosen), as_json=as_json)
        return
    manifest = steps.snapshot(new_generation(), chosen)
    option = "" if publish else " --no-publish"
    typer.echo(f"if it is interrupted: mnist-ops runs resume {manifest}{option}", err=True)
    finish_run(steps, manifest, publish=publish, as_json=as_json)


def _print_count(records: int, *, as_json: bool) -> None:
    if as_json:
        print_json({"would_be_taken": records})
    else:
        typer.echo(f"{records:,} records would be taken")


@app.command()
def resume(
    manifest: Annotated[str, typer.Argument(help="The manifest that `runs classify` printed.")],
    publish: Publish = True,
    as_json: Json = False,
) -> None:
    """Continue an interrupted `runs classify`: do only what is missing, and write its predictions."""
    finish_run(pipeline(), manifest, publish=publish, as_json=as_json)


@app.command()
def train(config: ConfigName = None, changes: Changes = None, as_json: Json = False) -> None:
    """Train on the labelled records and release: snapshot, fetch, build, train, evaluate, release.

    If the config has a sweep, all its trials are trained, and the one that validates best is released.
    """
    require_extras("runs train", "train")
    trials = raw_config(config, changes).trials()
    from mnist_ops.cli._support.trials import best_training

    steps = pipeline()
    manifest = steps.snapshot(new_generation(), Selection(at=steps.now(), labelled=True))
    parts = steps.parts(manifest)
    if not parts:
        _print_nothing_to_train_on(as_json=as_json)
        return
    reuse = steps.adapters.datasets.newest_dataset()
    with steps.adapters.images() as images:
        shards = [steps.fetch(part, images=images, reuse_dataset=reuse) for part in parts]
    training = best_training(steps, steps.build_dataset(manifest, shards), trials)
    candidate = steps.release_and_promote(steps.evaluate(training), getpass.getuser())
    print_gate_result(candidate, as_json=as_json)


def _print_nothing_to_train_on(*, as_json: bool) -> None:
    why = "no record has a human label, so there is nothing to train on"
    if as_json:
        # As a gate's result has them.
        print_json({"bundle": None, "promote": False, "promoted": False, "why": why})
    else:
        typer.echo(why)


@app.command("list")
def list_runs(
    beginning: Annotated[
        str,
        typer.Argument(
            metavar="BEGINNING", help="The beginning of run keys or run ids; by default all runs."
        ),
    ] = "",
    as_json: Json = False,
) -> None:
    """List the finished runs, oldest first: a row for each ledger. With --json the whole ledgers."""
    ledgers = ledgers_of(pipeline().adapters.runs, beginning)
    if as_json:
        for ledger in ledgers:
            print_json(ledger)
    elif ledgers:
        print_table(ledger_tables.COLUMNS, map(ledger_tables.row, ledgers), right=ledger_tables.RIGHT)
    else:
        typer.echo("no run is finished yet")


@app.command()
def show(run: Run, generation: GenerationNumber = None, as_json: Json = False) -> None:
    """Show a run's ledger: outcomes, failures with examples, labels, window, model, cost, bottleneck."""
    runs = pipeline().adapters.runs
    ledger = find_ledger(runs, run, generation)
    release = runs.hold_release(Generation(ledger["run"], ledger["generation"]))
    print_ledger(ledger, as_json=as_json, release=release)


@app.command()
def release_hold(
    run: Run,
    why: Annotated[str, typer.Option(help="The reason, which is kept with your name.")],
    generation: GenerationNumber = None,
) -> None:
    """Allow a run over its failure budget to be published. Then clear its task `assess`, or resume it."""
    steps = pipeline()
    held, manifest = find_commit(steps.adapters.runs, run, generation)
    steps.release_hold(held, getpass.getuser(), why)
    resume = f"resume it: mnist-ops runs resume {manifest}"
    then = resume if is_of_cli(held) else "clear its task assess"
    typer.echo(f"{readable_run(held.run)}, generation {held.number}, is released: {then}")
