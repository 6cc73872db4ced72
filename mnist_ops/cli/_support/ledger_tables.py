"""Ledgers as rows, and in words."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import typer

from mnist_ops.cli._support.run_names import LedgerDocument, readable_run
from mnist_ops.cli._support.tables import print_facts, print_json, print_table
from mnist_ops.domain.ages import AgeSummary, duration
from mnist_ops.domain.outcome_lines import counted, run_argument, window_lines
from mnist_ops.domain.outcomes import HoldRelease
from mnist_ops.domain.record_ids import readable_id

COLUMNS = ("run", "finished", "records", "outcomes", "problem")
RIGHT = frozenset({"records"})


def row(ledger: LedgerDocument) -> list[str]:
    """The cells of `COLUMNS`."""
    number = ledger["generation"]
    return [
        readable_run(ledger["run"]) + (f" (generation {number})" if number else ""),
        f"{ledger['finished_at']:%Y-%m-%d %H:%M}",
        f"{ledger['selected']:,}",
        counted(ledger["outcomes"]),
        _problem(ledger),
    ]


def print_ledger(ledger: LedgerDocument, *, as_json: bool, release: HoldRelease | None = None) -> None:
    """Print a ledger in words, a problem first; or as one JSON object.

    Args:
        ledger: of one generation.
        as_json: as JSON, in which the release is `hold_released`.
        release: who released the generation from being held; None if nobody did.
    """
    if as_json:
        print_json({**ledger, "hold_released": asdict(release)} if release else ledger)
        return
    print_facts([*_facts(ledger), *_release_facts(release)])
    rows = [
        (reason, readable_id(one["record_id"]), "\n".join(filter(None, (one["url"], one["detail"]))))
        for reason, examples in ledger["examples"].items()
        for one in examples
    ]
    if rows:
        typer.echo()
        print_table(("examples of", "record", "image and detail"), rows)
    if ledger["selected"]:
        run = f"{run_argument(ledger['run'])} --generation {ledger['generation']}"
        typer.echo(f"\nevery record: mnist-ops records list --run {run}")


def _facts(ledger: LedgerDocument) -> Iterator[tuple[str, str]]:
    """Names and values of what `runs show` prints."""
    if problem := _problem(ledger):
        yield "PROBLEM", problem
    yield "run", readable_run(ledger["run"])
    yield "generation", str(ledger["generation"])
    yield "finished", f"{ledger['finished_at']:%Y-%m-%d %H:%M:%S} UTC"
    yield "window", " ".join(window_lines(ledger["selection"]))
    if model := ledger["model"]:
        yield "champion", f"{model['name']} {model['version']}"
    yield "records", f"{ledger['selected']:,}"
    yield "outcomes", counted(ledger["outcomes"])
    if ledger["labels"]:
        yield "labels", counted(ledger["labels"])
        yield "needs review", f"{ledger['needs_review']} of {sum(ledger['labels'].values())} predictions"
    yield from _age_facts(ledger)
    if ledger["reasons"]:
        yield "failures", counted(ledger["reasons"])
    if ledger["superseded"]:
        yield (
            "superseded",
            f"{ledger['superseded']} outcomes: later runs replaced them, or records were deleted",
        )
    yield "cost", _cost(ledger["cost"])
    if bottleneck := ledger["bottleneck"]:
        share = f"{bottleneck['share']:.0%} of the time of all tasks"
        yield "bottleneck", f"{bottleneck['stage']}, {share}: {bottleneck['doing']}"
    yield "manifest", ledger["manifest"]


def _release_facts(release: HoldRelease | None) -> Iterator[tuple[str, str]]:
    if release is not None:
        yield "released", f"by {release.by} at {release.at:%Y-%m-%d %H:%M:%S} UTC: {release.why}"


def _age_facts(ledger: LedgerDocument) -> Iterator[tuple[str, str]]:
    """The ages of the records at publication, and the objective; ledgers of earlier versions have neither."""
    if age := ledger.get("age_s"):
        yield "age at publication", str(AgeSummary(**age))
    if freshness := ledger.get("freshness"):
        met = "met" if freshness["met"] else "MISSED"
        yield "freshness", f"{met}: the objective for p95 is {duration(freshness['objective_s'])}"


def _problem(ledger: LedgerDocument) -> str:
    return "; ".join(filter(None, (ledger["imbalance"], ledger["held_because"])))


def _cost(cost: Mapping[str, Any]) -> str:
    currency, per_1000 = cost["currency"], cost["per_1000_records"]
    items = ", ".join(f"{name} {amount:.6f}" for name, amount in cost["by"].items() if amount)
    return (
        f"about {cost['total']:.6f} {currency}"
        + (f", {per_1000:.6f} {currency} per 1,000 records" if per_1000 is not None else "")
        + (f" ({items})" if items else "")
    )
