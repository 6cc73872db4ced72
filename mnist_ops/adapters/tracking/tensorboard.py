"""Records trainings as event files for TensorBoard, and runs TensorBoard.

Errors of its files, and of its writer for a network or numbers that it cannot record, become Transient. torch
and TensorBoard are imported when they are used.
"""

import contextlib
import json
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_ops.domain.errors import Permanent, Transient
from mnist_ops.vision.training.tracking import Experiment, Outcome, QueueSummary, Tracker

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn
    from torch.utils.tensorboard.writer import SummaryWriter

    from mnist_ops.vision.training.tracking import Digits

_FLUSH_S = 10  # seconds until TensorBoard can read a recorded number
_LARGEST = 1e19  # limit of a value in a histogram, whose last bin ends at 1e20


class TensorBoardTracker(Tracker):
    """Writes the event files of an experiment into a folder with its name.

    Args:
        folder: the folder of all experiments.

    Raises:
        Permanent: TensorBoard or torch is not installed.
    """

    name = "tensorboard"

    def __init__(self, folder: Path) -> None:
        _require("torch")
        _require("tensorboard")
        self._folder, self._run = folder, folder
        self._writer: SummaryWriter | None = None
        self._replaces = False

    def begin(self, experiment: Experiment) -> None:
        """Open the experiment's folder; events from the first new step on will be replaced."""
        self._run = self._folder / experiment.name
        with _writing():
            self._replaces = any(self._run.glob("events.out.tfevents.*"))
            self._writer = self._open()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        with _writing():
            writer = self._from(step)
            for tag, value in values.items():
                writer.add_scalar(tag, value, step)

    def queues(self, step: int, values: Mapping[str, QueueSummary]) -> None:
        """Write mean, std, min and max as scalars."""
        for tag, summary in values.items():
            self.scalars(step, summary.scalars(tag))

    def histograms(self, step: int, values: "Mapping[str, NDArray[np.floating]]") -> None:
        """Write the distribution of the finite values, if there are any."""
        import numpy as np

        with _writing():
            writer = self._from(step)
            for tag, array in values.items():
                finite = array[np.isfinite(array)].astype(np.float64)
                if finite.size:
                    writer.add_histogram(tag, finite.clip(-_LARGEST, _LARGEST), step)

    def images(self, step: int, tag: str, images: "Digits", captions: Sequence[str]) -> None:
        """Write one image with all digits and captions."""
        from mnist_ops.adapters.tracking.image_grid import sample_grid  # noqa: PLC0415 - imported when an image is logged

        with _writing():
            self._opened.add_image(tag, sample_grid(images, captions), step, dataformats="HWC")

    def graph(self, network: "nn.Module", example: "Tensor") -> None:
        # The writer prints what it cannot trace; standard output is for results.
        with _writing(), warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
            # The writer uses torch.jit.trace, which is deprecated.
            warnings.simplefilter("ignore")
            self._opened.add_graph(network, example)

    def embedding(
        self, step: int, tag: str, vectors: "NDArray[np.floating]", labels: Sequence[str], images: "Digits"
    ) -> None:
        """Write vectors, labels and a sprite of the images for the projector."""
        import torch

        sprite = torch.tensor(images)[:, None].float() / 255
        # The writer prints that it replaces an earlier embedding; standard output is for results.
        with _writing(), contextlib.redirect_stdout(sys.stderr):
            self._opened.add_embedding(vectors, list(labels), sprite, step, tag)

    def hparams(self, config: Mapping[str, object], metrics: Mapping[str, float]) -> None:
        """Write both for the HPARAMS page, and the metrics as scalars."""
        hparams = import_module("torch.utils.tensorboard.summary").hparams
        plain = {name: _plain(value) for name, value in config.items()}
        with _writing():
            # `add_hparams` would open a second file, and TensorBoard would stop reading the first. The first
            # summary of `hparams` lists the columns for all experiments at once; without it TensorBoard
            # derives them from the experiments.
            writer: Any = self._opened.file_writer
            _, started, ended = hparams(plain, dict(metrics))
            writer.add_summary(started)
            writer.add_summary(ended)
            for tag, value in metrics.items():
                self._opened.add_scalar(tag, value)

    def finish(self, outcome: Outcome) -> None:
        """Close the event file; idempotent."""
        del outcome
        if self._writer is not None:
            with _writing():
                self._writer.close()

    @property
    def _opened(self) -> "SummaryWriter":
        if self._writer is None:
            raise Permanent("tensorboard: no experiment has begun")
        return self._writer

    def _from(self, step: int) -> "SummaryWriter":
        """The writer for a step. The first step of a resumed training hides older events from it on."""
        if self._replaces:
            self._replaces = False
            self._opened.close()
            self._writer = self._open(step)
        return self._opened

    def _open(self, purge_step: int | None = None) -> "SummaryWriter":
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(self._run), purge_step=purge_step, flush_secs=_FLUSH_S)


def serve(folder: Path, port: int) -> None:
    """Run TensorBoard over the folder of all experiments, on 127.0.0.1, until it is stopped.

    Raises:
        Permanent: TensorBoard is not installed, the folder does not exist, or the port is in use.
    """
    _require("tensorboard")
    if not folder.is_dir():
        raise Permanent(f"{folder}: no training has been tracked for TensorBoard yet")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # raised by its plugins' dependencies
        program, default = (import_module(f"tensorboard.{name}") for name in ("program", "default"))
        plugins = default.get_plugins()
    server: Any = program.TensorBoard(plugins=plugins)
    # The faster loader is experimental and needs another process.
    server.configure(
        logdir=str(folder), host="127.0.0.1", port=port, load_fast="false", reload_multifile=True
    )
    if server.main():
        raise Permanent(f"TensorBoard did not start on 127.0.0.1:{port}")


def _require(module: str) -> None:
    if find_spec(module) is None:
        raise Permanent(f'{module} is not installed: pip install "mnist-ops[train]"')


@contextmanager
def _writing() -> Iterator[None]:
    """Translate errors of the writer to Transient.

    Besides OSError, torch 2 raises RuntimeError, TypeError and TracingCheckError for a network that cannot be
    traced or differs from its trace, ValueError for a histogram without a bin, and AssertionError for an
    embedding whose counts differ.
    """
    untraceable: type[Exception] = import_module("torch.jit").TracingCheckError
    try:
        yield
    except OSError as error:
        raise Transient(f"the event files cannot be written: {error}") from error
    except (RuntimeError, ValueError, TypeError, AssertionError, untraceable) as error:
        raise Transient(f"the writer cannot record it: {type(error).__name__}: {error}") from error


def _plain(value: object) -> bool | int | float | str | None:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return json.dumps(value)
