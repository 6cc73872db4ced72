"""Release: an evaluated training becomes a bundle in the registry, with the gate's decision about it."""

import logging
import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from mnist_ops.domain.gate import Gate, Score, decide
from mnist_ops.domain.keys import bundle_prefix, digest_in_name
from mnist_ops.domain.labels import LabelTable
from mnist_ops.domain.outcome_lines import log_lines, wrapped
from mnist_ops.domain.ports import ModelRegistry, ObjectStore, RegisteredModel
from mnist_ops.domain.records import BundleRef
from mnist_ops.steps.artifacts.bundles import upload_bundle
from mnist_ops.steps.artifacts.datasets import load_fold
from mnist_ops.steps.artifacts.trainings import Training, read_training
from mnist_ops.steps.evaluate import Comparison, read_evaluation
from mnist_ops.steps.promote import GateResult
from mnist_ops.vision.data.folds import Fold
from mnist_ops.vision.evaluation.metrics import Evaluation
from mnist_ops.vision.inference.bundle import bundle_digest, load_card
from mnist_ops.vision.models.torch_backend import trained_logits
from mnist_ops.vision.release.export import Provenance, write_bundle
from mnist_ops.vision.release.report import Champion, ReportedModel, write_report

_log = logging.getLogger(__name__)


def release(
    evaluation_uri: str,
    *,
    objects: ObjectStore,
    models: ModelRegistry,
    model_name: str,
    gate: Gate,
    now: Callable[[], datetime],
) -> GateResult:
    """Make the bundle of an evaluated training, and register it as a candidate with the gate's decision.

    The champion stays the same: `promote_candidate` changes it, if the gate allows it. Repeating a release
    changes nothing. Releasing the same training with another evaluation or gate replaces the decision.

    Args:
        evaluation_uri: the evaluation.
        objects: the store of trainings, data sets and bundles.
        models: the registry.
        model_name: the name to release it under.
        gate: the conditions that a challenger must meet.
        now: the wall clock (UTC).
    """
    comparison = read_evaluation(objects, evaluation_uri)
    training = read_training(objects, comparison.training)
    version = models.reserve(model_name, training.uri)
    with tempfile.TemporaryDirectory(prefix="mnist-ops-") as folder:
        digest = _write_bundle(Path(folder), training, comparison, objects)
        _write_report(Path(folder), f"{model_name}, version {version}", training, comparison, objects)
        uri = upload_bundle(objects, Path(folder), bundle_prefix(model_name, version, digest))
    test = comparison.challenger[Fold.TEST]
    bundle = BundleRef(model_name, version, uri, digest)
    champion = comparison.champion
    if champion is not None and champion.version == version:
        # It was compared with itself, which proves nothing: its former decision stays.
        registered = models.register(RegisteredModel(bundle, training.uri, _metrics(test), now()))
        return GateResult(registered.bundle, promote=False, promoted=False, why="it is the champion already")
    theirs = _score(comparison.champion_test) if comparison.champion_test else None
    decision = decide(_score(test), theirs, comparison.disagreements, gate)
    decision = replace(decision, compared_with=champion)
    registered = models.register(RegisteredModel(bundle, training.uri, _metrics(test), now(), decision))
    log_lines(_log, wrapped(f"{model_name} {version}: {decision.why}"))
    return GateResult(
        bundle=registered.bundle,
        promote=decision.promote,
        promoted=False,
        why=decision.why,
        champion=champion,
        p_value=decision.p_value,
        disagreements=comparison.disagreements,
    )


def _score(test: Evaluation) -> Score:
    return Score(accuracy=test.accuracy, samples=test.samples, ece=test.ece, chance_ece=test.chance_ece)


def _metrics(test: Evaluation) -> dict[str, float]:
    return {
        "test_accuracy": test.accuracy,
        "test_accuracy_low": test.accuracy_low,
        "test_accuracy_high": test.accuracy_high,
        "test_nll": test.nll,
        "test_brier": test.brier,
        "test_ece": test.ece,
        "test_samples": float(test.samples),
    }


def _write_bundle(folder: Path, training: Training, comparison: Comparison, objects: ObjectStore) -> str:
    validation = load_fold(objects, training.dataset, Fold.VALIDATION)
    provenance = Provenance(
        dataset_digest=f"sha256:{digest_in_name(training.dataset_uri)}",
        training_digest=f"sha256:{digest_in_name(training.uri)}",
        abstention=comparison.abstention,
        labels=LabelTable(training.dataset.labels),
        temperature=comparison.temperature,
    )
    write_bundle(folder, training.model, validation.images, comparison.challenger, provenance)
    return bundle_digest(folder)


def _write_report(
    folder: Path, title: str, training: Training, comparison: Comparison, objects: ObjectStore
) -> None:
    """Write the report of a bundle into its folder.

    Its pictures of the test fold come from the training's own weights: nothing is chosen by them.
    """
    examples = load_fold(objects, training.dataset, Fold.TEST)
    model = ReportedModel(
        title=title,
        digest=bundle_digest(folder),
        card=load_card(folder),
        trained=training.model,
        uncalibrated=comparison.uncalibrated,
        examples=examples,
        logits=trained_logits(training.model, examples.images),
        champion=_reported_champion(comparison),
    )
    write_report(folder, model)


def _reported_champion(comparison: Comparison) -> Champion | None:
    champion, test = comparison.champion, comparison.champion_test
    if champion is None or test is None or comparison.disagreements is None:
        return None
    return Champion(champion.version, champion.digest, test, comparison.disagreements)
