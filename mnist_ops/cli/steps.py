"""`mnist-ops steps …`: one step at a time, as a task in Airflow runs it."""

import getpass
import json
import logging
import os
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from mnist_ops.cli._support.command_groups import command_group
from mnist_ops.cli._support.exit_codes import ExitCode
from mnist_ops.cli._support.extras import require_extras
from mnist_ops.cli._support.model_tables import print_gate_result
from mnist_ops.cli._support.options import (
    Again,
    Changes,
    ConfigName,
    Json,
    Limit,
    Since,
    Until,
    pipeline,
    raw_config,
    selection,
)
from mnist_ops.cli._support.run_progress import new_generation
from mnist_ops.cli._support.tables import print_facts, print_json
from mnist_ops.domain.errors import UsageError
from mnist_ops.domain.selection import Selection
from mnist_ops.domain.stages import StageReport, reports_to

app = command_group("Run one step on URIs that earlier steps printed.")

Uris = Annotated[list[str] | None, typer.Argument(help="URIs of shards, as the previous step printed them.")]


@app.command()
def snapshot(
    since: Since = None,
    until: Until = None,
    reclassify: Again = "never",
    limit: Limit = None,
    labelled: Annotated[bool, typer.Option(help="Take the human-labelled records.")] = False,
) -> None:
    """Take a snapshot; prints the manifest, then one line for each part."""
    steps = pipeline()
    if labelled:
        chosen = Selection(at=steps.now(), labelled=True)
    else:
        chosen = selection(since, until, reclassify, limit)
    manifest = steps.snapshot(new_generation(), chosen)
    typer.echo("\n".join([manifest, *steps.parts(manifest)]))


@app.command()
def fetch(
    part: Annotated[str, typer.Argument(help="A part: <manifest uri>#<number>.")],
    reuse: Annotated[bool, typer.Option(help="Reuse the images of the newest data set.")] = False,
) -> None:
    """Fetch a part's images; prints the image shard."""
    steps = pipeline()
    known = steps.adapters.datasets.newest_dataset() if reuse else None
    typer.echo(steps.fetch(part, reuse_dataset=known))


@app.command()
def classify(images: Annotated[str, typer.Argument(help="An image shard.")]) -> None:
    """Classify an image shard; prints the prediction shard."""
    typer.echo(pipeline().classify(images))


@app.command()
def assess(manifest: Annotated[str, typer.Argument(help="The manifest.")], predictions: Uris = None) -> None:
    """Check all prediction shards of a manifest against the failure budget; prints the assessment."""
    typer.echo(pipeline().assess(manifest, predictions or []))


@app.command()
def publish(
    predictions: Annotated[str, typer.Argument(help="A prediction shard.")],
    assessment: Annotated[str, typer.Argument(help="The assessment.")],
) -> None:
    """Write a prediction shard into its records; prints the outcome shard."""
    typer.echo(pipeline().publish(predictions, assessment))


@app.command()
def reconcile(
    manifest: Annotated[str, typer.Argument(help="The manifest.")],
    outcomes: Uris = None,
    as_json: Json = False,
) -> None:
    """Write the ledger of a manifest from its outcome shards; fails unless its numbers add up."""
    counted = pipeline().reconcile(manifest, outcomes or []).outcomes
    if as_json:
        print_json(counted)
    else:
        print_facts((outcome, str(count)) for outcome, count in counted.items())


@app.command("build-dataset")
def build_dataset(
    manifest: Annotated[str, typer.Argument(help="The manifest.")], images: Uris = None
) -> None:
    """Build a data set from a labelled manifest and its image shards; prints its manifest."""
    typer.echo(pipeline().build_dataset(manifest, images or []))


@app.command()
def dataset_report(
    dataset: Annotated[str, typer.Argument(help="The data set's manifest.")],
    epochs: Annotated[
        int, typer.Option(help="The epochs of each classifier that checks the labels.", min=1)
    ] = 12,
) -> None:
    """Count a data set's classes and rank the labels that are likely wrong; prints the report."""
    require_extras("steps dataset-report", "train")
    from mnist_ops.vision.training.label_errors import OUT_OF_FOLD_CONFIG

    config = OUT_OF_FOLD_CONFIG.model_copy(update={"epochs": epochs})
    typer.echo(pipeline().dataset_report(dataset, config))


@app.command()
def train(  # noqa: PLR0913, PLR0917 (one for each option)
    dataset: Annotated[str, typer.Option(help="The data set's manifest.")],
    config_json: Annotated[str | None, typer.Option(help="Hyperparameters as a JSON object.")] = None,
    config: ConfigName = None,
    changes: Changes = None,
    result: Annotated[Path | None, typer.Option(help="Also write the training's URI into this file.")] = None,
    report: Annotated[
        Path | None, typer.Option(help="Also write what it took, as a JSON object, into this file.")
    ] = None,
    end_with_stdin: Annotated[
        bool,
        typer.Option(
            "--end-with-stdin",
            help="For a parent process: end when standard input closes, and log without the time.",
        ),
    ] = False,
) -> None:
    """Train on a data set; prints the training."""
    require_extras("steps train", "train")
    if end_with_stdin:
        for handler in logging.getLogger().handlers:
            handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    hyperparameters = raw_config(config, changes, config_json).config()
    from mnist_ops.cli._support.training_progress import train_with_progress

    for name, path in (("--result", result), ("--report", report)):
        if path is not None:
            _require_writable(name, path)

    def write_report(took: StageReport) -> None:
        if report is not None:
            report.write_text(json.dumps(took.document()))

    with reports_to(write_report):
        uri = train_with_progress(pipeline(), dataset, hyperparameters)
    typer.echo(uri)
    if result is not None:
        result.write_text(uri)


def _require_writable(option: str, path: Path) -> None:
    """Find out before the training, which takes long; a new file is not left behind.

    Raises:
        UsageError: the file cannot be written.
    """
    is_new = not path.exists()
    try:
        path.open("a").close()
        if is_new:
            path.unlink()
    except OSError as error:
        raise UsageError(f"{option} {path}: {error.strerror}") from error


def _end_with_stdin() -> None:
    # Not through sys.stdin: the interpreter needs its lock when it ends.
    while os.read(sys.stdin.fileno(), 1024):
        pass
    # Nothing is wrong with the training itself: a retry may work.
    os._exit(ExitCode.TRANSIENT)


@app.command()
def evaluate(training: Annotated[str, typer.Argument(help="A training.")]) -> None:
    """Measure a training and the champion on the test fold; prints the evaluation."""
    require_extras("steps evaluate", "train")
    typer.echo(pipeline().evaluate(training))


@app.command()
def release(evaluation: Annotated[str, typer.Argument(help="An evaluation.")], as_json: Json = False) -> None:
    """Release a model, and promote it if the gate allows it; prints the version and the gate's result."""
    require_extras("steps release", "train")
    candidate = pipeline().release_and_promote(evaluation, getpass.getuser())
    print_gate_result(candidate, as_json=as_json)
