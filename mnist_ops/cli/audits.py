"""`mnist-ops audits draw|list|show`: the accuracy in production, by a random sample that people label."""

import getpass
from collections.abc import Iterator
from typing import Annotated

import typer

from mnist_ops.cli._support.command_groups import command_group
from mnist_ops.cli._support.options import GenerationNumber, Json, pipeline
from mnist_ops.cli._support.run_names import find_ledger, readable_run
from mnist_ops.cli._support.tables import print_facts, print_json, print_table
from mnist_ops.domain.drawn_audits import LARGEST_SAMPLE, STRATA, DrawnAudit
from mnist_ops.domain.errors import UsageError
from mnist_ops.domain.keys import Generation
from mnist_ops.domain.moments import moment_of_words

app = command_group("Measure the accuracy in production: people label a random sample of the predictions.")

_LISTED = 50
_COLUMNS = ("audit", "by", "predictions", "answered", "accuracy", "95 % interval")
_RIGHT = ("predictions", "answered", "accuracy")


@app.command()
def draw(  # noqa: PLR0913, PLR0917 (one for each option)
    run: Annotated[
        str | None, typer.Option(metavar="RUN", help="Draw from the predictions of this run.")
    ] = None,
    generation: GenerationNumber = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Draw from all runs that finished since: a date or time, yesterday, '30 days ago', 12h. "
            "Without --run and --since, from every run.",
        ),
    ] = None,
    size: Annotated[
        int, typer.Option(min=1, max=LARGEST_SAMPLE, help="How many predictions people are to label.")
    ] = 200,
    strata: Annotated[
        str, typer.Option(metavar="|".join(STRATA), help="How the predictions are divided before the draw.")
    ] = "confidence",
    seed: Annotated[
        int | None, typer.Option(min=0, help="Draw what this seed draws; by default a random one.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Draw predictions at random, for people to label on the page Review > Audits."""
    from mnist_ops.steps.draw_audit import AuditRequest

    if run is not None and since is not None:
        raise UsageError("--run and --since cannot both be given; leave one out")
    steps = pipeline()
    chosen = None
    if run is not None:
        ledger = find_ledger(steps.adapters.runs, run, generation)
        chosen = Generation(ledger["run"], ledger["generation"])
    moment = None if since is None else moment_of_words(since, "--since", steps.now())
    audit = steps.draw_audit(AuditRequest(getpass.getuser(), chosen, moment, size, strata, seed))
    if as_json:
        print_json(_document(audit))
        return
    typer.echo(
        f"audit {audit.id}: {len(audit.sample):,} of {sum(audit.records.values()):,} predictions drawn"
    )
    typer.echo("label them on the page Review > Audits; `mnist-ops audits show` has the result")


@app.command("list")
def list_audits(as_json: Json = False) -> None:
    """List the newest audits with the accuracy so far."""
    audits = pipeline().adapters.audits.newest(_LISTED)
    if as_json:
        for audit in audits:
            print_json(_document(audit))
    elif audits:
        print_table(_COLUMNS, map(_row, audits), right=_RIGHT)
    else:
        typer.echo("no audit yet; mnist-ops audits draw draws one")


@app.command()
def show(
    audit: Annotated[
        str | None, typer.Argument(metavar="AUDIT", help="The audit's id; by default the newest.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show an audit: its strata, what people answered, and the accuracy with its interval."""
    audits = pipeline().adapters.audits
    found = audits.get(audit) if audit is not None else next(iter(audits.newest(1)), None)
    if found is None:
        raise UsageError(
            "no audit yet" if audit is None else f"no audit {audit}; mnist-ops audits list has all"
        )
    if as_json:
        print_json(_document(found))
        return
    print_facts(_facts(found))
    typer.echo()
    header = ("stratum", "predictions", "drawn", "answered", "wrong")
    rows = [
        [one.name, f"{one.records:,}", f"{one.drawn:,}", f"{one.answered:,}", f"{one.wrong:,}"]
        for one in found.results()
    ]
    print_table(header, rows, right=header[1:])


def _row(audit: DrawnAudit) -> list[str]:
    accuracy, interval = _accuracy(audit)
    predictions = f"{sum(audit.records.values()):,}"
    answered = f"{audit.answered:,} of {len(audit.sample):,}"
    return [audit.id, audit.drawn_by, predictions, answered, accuracy, interval]


def _accuracy(audit: DrawnAudit) -> tuple[str, str]:
    """The accuracy and its interval; dashes where they are not known yet."""
    found = audit.estimate()
    return (f"{found.accuracy:.2%}", f"{found.low:.2%} to {found.high:.2%}") if found else ("-", "-")


def _facts(audit: DrawnAudit) -> Iterator[tuple[str, str]]:
    accuracy, interval = _accuracy(audit)
    yield "audit", audit.id
    yield (
        "drawn",
        f"by {audit.drawn_by} at {audit.drawn_at.isoformat()}, strata: {audit.strata}, seed {audit.seed}",
    )
    yield "from", ", ".join(readable_run(run.id) for run in audit.runs)
    yield "answered", f"{audit.answered:,} of {len(audit.sample):,}, {audit.wrong:,} predicted otherwise"
    if audit.complete:
        yield "accuracy", f"{accuracy} ({interval} with 95 % confidence)"
    else:
        yield "so far", f"{accuracy} ({interval} with 95 % confidence)"
        left = len(audit.sample) - audit.answered
        yield (
            "not complete",
            f"{left:,} drawn predictions have no answer; the accuracy so far may be too high",
        )


def _document(audit: DrawnAudit) -> dict[str, object]:
    found = audit.estimate()
    return {
        "audit": audit.id,
        "drawn_by": audit.drawn_by,
        "drawn_at": audit.drawn_at,
        "seed": audit.seed,
        "strata": audit.strata,
        "runs": [run.id for run in audit.runs],
        "predictions": sum(audit.records.values()),
        "drawn": len(audit.sample),
        "answered": audit.answered,
        "wrong": audit.wrong,
        "complete": audit.complete,
        "accuracy": found.accuracy if found else None,
        "low": found.low if found else None,
        "high": found.high if found else None,
    }
