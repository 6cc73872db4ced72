"""The demo's closing tables."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from mnist_ops.local.demo import Result, total

_STAGES = ("snapshot", "fetch", "classify", "publish")


def show(result: Result, console: Console, addresses: Mapping[str, str]) -> None:
    """Print records by outcome and reason, the stages, the model, and the addresses by name."""
    console.print(_outcomes(result.ledgers), _stages(result.ledgers))
    if result.model is not None:
        bundle, metrics = result.model.bundle, result.model.metrics
        console.print(
            f"model      {bundle.name} {bundle.version}, test accuracy {metrics['test_accuracy']:.2%} "
            f"on {metrics['test_samples']:.0f} digits, NLL {metrics['test_nll']:.4f}",
            highlight=False,
        )
    console.print(
        f"accuracy   {result.accuracy:.2%} of the predictions agree with the hidden truth", highlight=False
    )
    for name, address in addresses.items():
        console.print(f"{name:<10} {address}", highlight=False, soft_wrap=True)
    wrong = len(result.complaints)
    summary = f"[red]{wrong} numbers are wrong[/red]" if wrong else "every number is right"
    console.print(f"result     {summary}", highlight=False)


def _outcomes(ledgers: Sequence[Mapping[str, object]]) -> Table:
    table = Table("outcome", "reason", "records", title=f"Records over {len(ledgers)} runs")
    reasons = total(ledgers, "reasons")
    for outcome, count in total(ledgers, "outcomes").items():
        table.add_row(outcome, "", str(count))
        if outcome == "quarantined":
            for reason, failed in reasons.items():
                table.add_row("", reason, str(failed))
    table.add_row("selected", "", str(sum(int(str(ledger["selected"])) for ledger in ledgers)), style="bold")
    return table


def _stages(ledgers: Sequence[Mapping[str, object]]) -> Table:
    table = Table("stage", "records", "seconds", "records/s", title="Stages, summed over their tasks")
    for stage in _STAGES:
        records, seconds = 0, 0.0
        for ledger in ledgers:
            stages = ledger["stages"]
            report = stages.get(stage) if isinstance(stages, Mapping) else None
            records += report["records"] if report else 0
            seconds += report["seconds"] if report else 0.0
        table.add_row(stage, str(records), f"{seconds:.2f}", f"{records / seconds:.0f}" if seconds else "")
    return table
