"""Records: `mnist-ops records list` for those of a run, `records show` for one as it is now."""

from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from mnist_ops.cli._support import record_tables
from mnist_ops.cli._support.command_groups import command_group
from mnist_ops.cli._support.options import GenerationNumber, Json, pipeline
from mnist_ops.cli._support.run_names import LedgerDocument, find_ledger, readable_run
from mnist_ops.cli._support.tables import print_facts, print_json, print_table
from mnist_ops.domain.errors import UsageError
from mnist_ops.domain.keys import Generation
from mnist_ops.domain.outcomes import Outcome
from mnist_ops.domain.ports import RunStore
from mnist_ops.domain.reasons import Reason
from mnist_ops.domain.record_ids import possible_ids

if TYPE_CHECKING:
    from mnist_ops.steps.run_records import RunRecord

app = command_group("Look at the records of a run, and at one record.")

_ROWS = 50  # of the table, unless --limit says another number


@app.command("list")
def list_records(  # noqa: PLR0913, PLR0917 (one for each option)
    run: Annotated[
        str | None, typer.Option(metavar="RUN", help="The run; by default the newest that took records.")
    ] = None,
    generation: GenerationNumber = None,
    outcome: Annotated[
        list[Outcome] | None, typer.Option(help="List only this outcome; may be repeated.")
    ] = None,
    reason: Annotated[
        list[Reason] | None,
        typer.Option(
            metavar="REASON",
            help=f"List only failures for this reason; may be repeated. It is one of {', '.join(Reason)}.",
        ),
    ] = None,
    needs_review: Annotated[
        bool, typer.Option("--needs-review", help="List only predictions that a person should look at.")
    ] = False,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help=f"List at most this number; by default {_ROWS}, and all with --json."),
    ] = None,
    as_json: Json = False,
) -> None:
    """List what a run did with each record, in the order of its snapshot."""
    steps = pipeline()
    runs = steps.adapters.runs
    named = _newest_run(runs) if run is None else run
    if named is None:
        if not as_json:
            typer.echo("no finished run has taken a record yet")
        return
    ledger = find_ledger(runs, named, generation)
    taken = steps.run_records(Generation(ledger["run"], ledger["generation"]), ledger["refers_to"])
    chosen = (
        record
        for record in taken
        if (not outcome or record.outcome in outcome)
        and (not reason or record.reason in reason)
        and (not needs_review or record.review_reason is not None)
    )
    if as_json:
        for record in islice(chosen, limit):
            print_json(asdict(record))
    else:
        _print_records(chosen, ledger, limit or _ROWS)


def _newest_run(runs: RunStore) -> str | None:
    """The newest run that took records; None if there is none."""
    taken = [str(ledger["run"]) for ledger in runs.ledgers() if ledger["selected"]]
    return taken[-1] if taken else None


def _print_records(records: Iterator["RunRecord"], ledger: LedgerDocument, limit: int) -> None:
    rows = [record_tables.row(record) for record in islice(records, limit)]
    run = f"{readable_run(ledger['run'])}, generation {ledger['generation']}"
    if not rows:
        typer.echo(f"{run}: none of its {ledger['selected']:,} records")
        return
    print_table(record_tables.COLUMNS, rows, title=run)
    if next(records, None) is not None:
        typer.echo(f"these are the first {limit}; --limit shows more")


@app.command()
def show(
    record: Annotated[
        str,
        typer.Argument(
            metavar="ID", help="The record's id: a text, an ObjectId, a number, or canonical Extended JSON."
        ),
    ],
    as_json: Json = False,
) -> None:
    """Show a record as it is now: its fields, prediction, former predictions and failure."""
    steps = pipeline()
    settings = steps.settings
    found = steps.adapters.records.whole(possible_ids(record))
    if not found:
        raise UsageError(
            f"no record {record} in {settings.mongo_database}.{settings.mongo_collection}; "
            "its id may be of another type: give it as canonical Extended JSON"
        )
    for number, document in enumerate(found.values()):
        if as_json:
            print_json(document)
            continue
        if number:
            typer.echo()
        print_facts(record_tables.facts(document, settings.fields))
