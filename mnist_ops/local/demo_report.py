"""What the demo prints when its runs are over: tables, the model, and where everything is."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mnist_ops.local import object_store
from mnist_ops.local.demo import Result, total
from mnist_ops.local.layout import Layout
from mnist_ops.local.ports import HOST
from mnist_ops.local.state import Stack

_STAGES = ("snapshot", "fetch", "classify", "publish")
_NEXT = """To use the command line on it:
  export MNIST_OPS_LOCAL_DIR={folder}
  {command} runs list
To stop it:
  make down"""


def show(result: Result, console: Console) -> None:
    """Print the records by outcome and reason, the stages, the model, and whether all of it is right."""
    console.print(_outcomes(result.ledgers), _stages(result.ledgers))
    if result.model is not None:
        bundle, metrics = result.model.bundle, result.model.metrics
        console.print(
            f"model      {bundle.name} {bundle.version}, test accuracy {metrics['test_accuracy']:.2%} "
            f"on {metrics['test_samples']:.0f} digits it never saw",
            highlight=False,
        )
    console.print(
        f"accuracy   {result.accuracy:.2%} of the predictions agree with the hidden truth", highlight=False
    )
    wrong = len(result.complaints)
    summary = f"[red]{wrong} numbers are wrong[/red]" if wrong else "every number is right"
    console.print(f"result     {summary}", highlight=False)


def show_places(stack: Stack, layout: Layout, console: Console, *, seconds: float, keep: bool) -> None:
    """Print how long the demo took in all, where its parts are, and what to do next.

    Args:
        stack: how to reach the parts.
        layout: where its files are.
        console: where to print.
        seconds: from the start to the end of the demo.
        keep: whether the stack is still up.
    """
    state = "Everything is still up:" if keep else "Everything is stopped. KEEP=1 make demo leaves it up, at:"
    lines = [f"\n{seconds:.0f} s in all. {state}"]
    lines += [f"  {name:<9}{place}" for name, place in _places(stack, layout).items()]
    if keep:
        command = _short(Path(sys.executable).with_name("mnist-ops"))
        lines += _NEXT.format(folder=_short(layout.root), command=command).splitlines()
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def _places(stack: Stack, layout: Layout) -> dict[str, str]:
    database = stack.connections["mongo_default"]["schema"]
    keys = _short(layout.credentials_file)
    return {
        "Airflow": f"{stack.airflow_url}, user {stack.airflow_user}, password in "
        f"{_short(layout.airflow_passwords_file)}",
        "MongoDB": f"mongodb://{HOST}:{stack.ports.mongo}/{database}, without a password",
        "S3": f"{object_store.endpoint(stack.ports)}, bucket {stack.bucket}, keys in {keys}",
        "logs": _short(layout.log("airflow").parent),
    }


def _short(path: Path) -> str:
    """A path as people type it: from the current folder, where it is below that."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith(os.pardir) else relative


def _outcomes(ledgers: Sequence[Mapping[str, object]]) -> Table:
    table = Table("outcome", "reason", "records", title=f"Records over {len(ledgers)} runs")
    table.columns[-1].justify = "right"
    for outcome, count in total(ledgers, "outcomes").items():
        if count:
            table.add_row(outcome, "", f"{count:,}")
    for reason, failed in total(ledgers, "reasons").items():
        table.add_row("", reason, f"{failed:,}")
    selected = sum(int(str(ledger["selected"])) for ledger in ledgers)
    table.add_row("selected", "", f"{selected:,}", style="bold")
    return table


def _stages(ledgers: Sequence[Mapping[str, object]]) -> Table:
    table = Table("stage", "records", "seconds", "records/s", title="Stages, summed over their tasks")
    for column in table.columns[1:]:
        column.justify = "right"
    for stage in _STAGES:
        records, seconds = 0, 0.0
        for ledger in ledgers:
            stages = ledger["stages"]
            report = stages.get(stage) if isinstance(stages, Mapping) else None
            records += report["records"] if report else 0
            seconds += report["seconds"] if report else 0.0
        rate = f"{records / seconds:,.0f}" if seconds else ""
        table.add_row(stage, f"{records:,}", f"{seconds:.2f}", rate)
    return table
