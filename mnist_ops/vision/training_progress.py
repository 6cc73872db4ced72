"""A progress bar for people who watch a training; logs use lines of their own."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mnist_ops.vision.training import EpochMetrics


@contextmanager
def training_bar(epochs: int, console: Console | None = None) -> Iterator[Callable[[EpochMetrics], None]]:
    """Show a bar; what it gives is the `on_epoch` of `train`.

    Args:
        epochs: how many the training has.
        console: where to draw; standard error without one, so that results can be piped.
    """
    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console or Console(stderr=True)) as progress:
        task = progress.add_task("", total=epochs)

        def on_epoch(metrics: EpochMetrics) -> None:
            progress.update(task, completed=metrics.epoch, description=describe(metrics))

        yield on_epoch


def describe(metrics: EpochMetrics) -> str:
    """One epoch in one line."""
    return (
        f"epoch {metrics.epoch}: loss {metrics.train_loss:.4f}, "
        f"validation accuracy {metrics.validation_accuracy:.2%}, nll {metrics.validation_nll:.4f}"
    )
