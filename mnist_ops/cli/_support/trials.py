"""The trials of a sweep, trained one after the other in this process."""

import json
import logging
from collections.abc import Sequence

from mnist_ops.cli._support.training_progress import train_with_progress
from mnist_ops.domain.errors import Permanent
from mnist_ops.domain.outcome_lines import log_lines, wrapped
from mnist_ops.pipeline import Pipeline
from mnist_ops.steps.choose import read_choice
from mnist_ops.vision.config.schema import TrainingConfig
from mnist_ops.vision.config.sweep import differences

_log = logging.getLogger(__name__)


def train_trials(pipeline: Pipeline, dataset: str, trials: Sequence[TrainingConfig]) -> str:
    """Train trials, at least one, on a data set; returns the URI of their table, without those that failed.

    Raises:
        Permanent: all of them failed; the error is that of the first.
    """
    trainings: list[str] = []
    failures: list[Permanent] = []
    for number, (config, different) in enumerate(zip(trials, differences(trials), strict=True), start=1):
        _log.info("trial %d of %d: %s", number, len(trials), json.dumps(different))
        try:
            trainings.append(train_with_progress(pipeline, dataset, config))
        except Permanent as error:
            log_lines(_log, wrapped(f"trial {number} failed: {error}", whole_words=True), logging.ERROR)
            failures.append(error)
    if not trainings:
        raise failures[0]
    return pipeline.choose(trainings)


def best_training(pipeline: Pipeline, dataset: str, trials: Sequence[TrainingConfig]) -> str:
    """Train trials on a data set; returns the URI of the training that validates best.

    Raises:
        Permanent: a trial failed.
    """
    if len(trials) == 1:
        return train_with_progress(pipeline, dataset, trials[0])
    choice = read_choice(pipeline.adapters.objects, train_trials(pipeline, dataset, trials))
    if failed := len(trials) - len(choice.trials):
        raise Permanent(f"{failed} of {len(trials)} trials failed: fix or remove them")
    return choice.winner
