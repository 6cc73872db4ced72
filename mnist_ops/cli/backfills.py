"""Backfills: `mnist-ops backfills preview`."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from mnist_ops.cli._support.command_groups import command_group
from mnist_ops.cli._support.options import Again, Json, Limit, pipeline
from mnist_ops.cli._support.tables import print_facts, print_json, print_table
from mnist_ops.domain.backfill_windows import MAX_ACTIVE_RUNS, BackfillRequest
from mnist_ops.domain.backfill_words import estimate_facts, estimate_notes, window_rows
from mnist_ops.domain.moments import moment_of_words
from mnist_ops.domain.selection import parse_reclassify

if TYPE_CHECKING:
    from mnist_ops.steps.preview_backfill import BackfillPreview

app = command_group("What a backfill of classify_records would do.")

Since = Annotated[
    str,
    typer.Option(
        metavar="TIME",
        help="The first window begins at or after this: an ISO date or time (UTC, or with an offset), "
        "yesterday, '7 days ago', 7d or 12h.",
    ),
]
Until = Annotated[
    str, typer.Option(metavar="TIME", help="The last window ends at or before this; written as --since.")
]
ActiveRuns = Annotated[
    int, typer.Option("--max-active-runs", min=1, max=100, help="How many runs are active at the same time.")
]


@app.command()
def preview(
    since: Since,
    until: Until = "now",
    reclassify: Again = "never",
    limit: Limit = None,
    max_active_runs: ActiveRuns = MAX_ACTIVE_RUNS,
    as_json: Json = False,
) -> None:
    """Count the records of each run of a backfill, estimate time and cost, and print its command."""
    steps = pipeline()
    policy, reasons = parse_reclassify(reclassify, "--reclassify")
    previewed = steps.preview_backfill(
        BackfillRequest(
            since=moment_of_words(since, "--since", steps.now()),
            until=moment_of_words(until, "--until", steps.now()),
            reclassify=policy,
            reasons=reasons,
            limit=limit,
            max_active_runs=max_active_runs,
        )
    )
    if as_json:
        print_json(_document(previewed))
    else:
        _print(previewed)


def _print(previewed: "BackfillPreview") -> None:
    request, estimate = previewed.request, previewed.estimate
    kind, rows = window_rows([(each.window, each.records) for each in previewed.windows])
    print_table(
        (kind, "runs", "records"),
        [(name, f"{runs:,}", f"{records:,}") for name, runs, records in rows],
        right={"runs", "records"},
    )
    typer.echo()
    print_facts(
        [
            ("runs", f"{len(previewed.windows):,}"),
            ("records", f"{previewed.records:,}"),
            ("images", f"at most {previewed.records:,}"),
            *(estimate_facts(estimate, request.max_active_runs) if estimate else ()),
        ]
    )
    typer.echo()
    for note in estimate_notes(estimate, previewed.past_runs, request.reclassify):
        typer.echo(note)
    typer.echo(f"To start it:\n{previewed.command}")


def _document(previewed: "BackfillPreview") -> dict[str, object]:
    return {
        "records": previewed.records,
        "runs": len(previewed.windows),
        "windows": [asdict(each.window) | {"records": each.records} for each in previewed.windows],
        "estimate": asdict(previewed.estimate) if previewed.estimate else None,
        "command": previewed.command,
        "backfill": previewed.document,
    }
