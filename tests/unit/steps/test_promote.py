"""Promotions and rollbacks: real trainings before the gate, and who is in production after it."""

from dataclasses import replace
from datetime import timedelta

import pytest

from mnist_ops.domain.champions import Promotion, rolled_back
from mnist_ops.domain.errors import Permanent
from mnist_ops.domain.gate import Gate
from mnist_ops.domain.keys import Generation, sha256_hex
from mnist_ops.domain.ports import RegisteredModel
from mnist_ops.domain.records import BundleRef
from mnist_ops.steps.artifacts.datasets import read_dataset
from mnist_ops.steps.artifacts.objects import get_json, put_json
from mnist_ops.steps.promote import GateResult, promote_candidate, promote_version
from mnist_ops.vision.data.folds import Fold, fold_of
from tests.support.miscalibrated import miscalibrated
from tests.support.pipeline_in_memory import AT, LENIENT, MODEL, PROMOTION, Pipeline, Trained

ANY = Gate(maximum_ece=1.0, minimum_accuracy=0.0)
BACK = Promotion(AT + timedelta(hours=2), "edsger", "it reads sevens as ones")


@pytest.fixture(scope="module")
def weak(trained: Trained) -> Pipeline:
    """A pipeline whose champion, version 1, learned nearly nothing."""
    pipeline = trained.pipeline.copy()
    training = pipeline.train(trained.dataset, epochs=1, batch_size=640, learning_rate=1e-6)
    assert pipeline.promote(pipeline.evaluate(training), ANY).promoted
    return pipeline


@pytest.fixture(scope="module")
def better(weak: Pipeline, trained: Trained) -> tuple[Pipeline, GateResult]:
    """That pipeline, with a proper training as version 2, a candidate; copy it before changing it."""
    pipeline = weak.copy()
    return pipeline, pipeline.release(pipeline.evaluate(trained.training))


@pytest.fixture(scope="module")
def improved(better: tuple[Pipeline, GateResult]) -> tuple[Pipeline, GateResult]:
    """That pipeline, after version 2 was promoted over its champion."""
    pipeline, candidate = better[0].copy(), better[1]
    return pipeline, promote_candidate(candidate, models=pipeline.models, who="the tests", at=pipeline.at)


@pytest.fixture(scope="module")
def candidate(released: Pipeline, trained: Trained) -> tuple[Pipeline, GateResult]:
    """A pipeline whose version 2 is as good as its champion, version 1."""
    pipeline = released.copy()
    return pipeline, pipeline.release(pipeline.evaluate(_twin(pipeline, trained)))


def _twin(pipeline: Pipeline, trained: Trained) -> str:
    """Another training with the same weights."""
    document = get_json(pipeline.objects, trained.training) | {"device": "cpu, once more"}
    return put_json(pipeline.objects, "trainings", Generation("twin"), "training.json", document)


def _keep_a_tenth_to_train_on(pipeline: Pipeline) -> None:
    """Remove nine in ten of the records whose images belong to the train fold, and no others."""
    kept = 0
    for record in pipeline.records.documents():
        image = pipeline.images.images[str(record["image_url"])]
        assert isinstance(image, bytes)
        if fold_of(sha256_hex(image)) is Fold.TRAIN:
            kept += 1
            if kept % 10:
                pipeline.records.delete(record["_id"])


def _version(pipeline: Pipeline, version: int) -> RegisteredModel:
    return next(model for model in pipeline.models.models(MODEL) if model.bundle.version == version)


# --- who passes


def test_a_challenger_trained_on_a_tenth_of_the_data_is_refused_with_the_numbers(
    released: Pipeline, trained: Trained
) -> None:
    """Both were measured on the whole test fold."""
    pipeline = released.copy()
    _keep_a_tenth_to_train_on(pipeline)
    tenth = pipeline.dataset("train/tenth")
    whole, less = (read_dataset(pipeline.objects, uri).folds for uri in (trained.dataset, tenth))
    assert (less["test"], less["train"] <= whole["train"] / 9) == (whole["test"], True)
    result = pipeline.promote(pipeline.evaluate(pipeline.train(tenth, epochs=2, batch_size=32)), ANY)
    assert (result.promote, result.promoted) == (False, False)
    counts, p = result.disagreements, result.p_value
    assert counts is not None
    assert p is not None
    assert counts.challenger_only_right < counts.champion_only_right
    assert result.why.startswith("refused, worse than the champion: accuracy ")
    assert f"on the {whole['test']} digits of the test fold" in result.why
    assert f"alone on {counts.champion_only_right}, McNemar's exact p = {p:.3g}, " in result.why
    assert pipeline.models.champion(MODEL) == released.models.champion(MODEL)


def test_a_challenger_equal_to_the_champion_is_refused_with_the_numbers(
    released: Pipeline, candidate: tuple[Pipeline, GateResult]
) -> None:
    """It is kept as a version, and the champion stays."""
    pipeline, result = candidate
    assert (result.promote, result.p_value, result.bundle.version) == (False, 1.0, 2)
    assert result.why.startswith("refused, no better than the champion: accuracy ")
    assert "alone is right on 0, the champion alone on 0, McNemar's exact p = 1, " in result.why
    assert promote_candidate(result, models=pipeline.models, who="ada", at=AT) == result
    assert pipeline.models.champion(MODEL) == released.models.champion(MODEL)


def test_a_better_challenger_is_promoted_with_who_when_and_why(
    weak: Pipeline, improved: tuple[Pipeline, GateResult]
) -> None:
    """The history has the gate's numbers as the reason."""
    pipeline, result = improved
    assert result.promoted, result.why
    assert result.p_value is not None
    assert result.p_value < LENIENT.significance
    assert result.champion == weak.models.champion(MODEL)
    assert pipeline.models.champion(MODEL) == result.bundle
    newest = pipeline.models.history(MODEL)[0]
    assert newest.promotion == Promotion(pipeline.at, "the tests", result.why)
    assert (newest.bundle, newest.former) == (result.bundle, result.champion)


def test_a_better_but_uncalibrated_challenger_is_refused(weak: Pipeline, trained: Trained) -> None:
    """Its probabilities would be written into every record."""
    pipeline = weak.copy()
    evaluation = pipeline.evaluate(trained.training)
    gate = Gate()
    assert pipeline.copy().promote(evaluation, gate).promoted
    result = pipeline.promote(miscalibrated(pipeline, evaluation), gate)
    assert not result.promoted
    assert result.why.startswith("refused, uncalibrated: ")
    assert pipeline.models.champion(MODEL) == weak.models.champion(MODEL)


# --- promotions by the gate's word


def test_a_promotion_that_is_made_again_changes_nothing(improved: tuple[Pipeline, GateResult]) -> None:
    """A task is tried again after its promotion went through."""
    pipeline, result = improved
    before = list(pipeline.models.history(MODEL))
    again = promote_candidate(replace(result, promoted=False), models=pipeline.models, who="ada", at=AT)
    assert again == result
    assert list(pipeline.models.history(MODEL)) == before


def test_the_person_who_approved_can_say_why(first_candidate: tuple[Pipeline, GateResult]) -> None:
    """Instead of the gate's reason."""
    pipeline, result = first_candidate[0].copy(), first_candidate[1]
    promote_candidate(result, models=pipeline.models, who="ada", at=AT, why="looked at the report")
    (change,) = pipeline.models.history(MODEL)
    assert change.promotion == Promotion(AT, "ada", "looked at the report")


def test_a_candidate_that_was_overtaken_is_to_be_evaluated_again(better: tuple[Pipeline, GateResult]) -> None:
    """It was compared with a former champion; the champion stays."""
    pipeline, result = better[0].copy(), better[1]
    newer = BundleRef(MODEL, 9, "memory://objects/models/newer", "sha256:newer")
    assert pipeline.models.promote(newer, pipeline.models.champion(MODEL), PROMOTION)
    with pytest.raises(Permanent, match="clear `evaluate`"):
        promote_candidate(result, models=pipeline.models, who="ada", at=AT)
    assert pipeline.models.champion(MODEL) == newer


def test_a_rolled_back_model_is_not_promoted_again_by_a_repeated_task(
    improved: tuple[Pipeline, GateResult],
) -> None:
    """The champion is the one that it was compared with, but a person decided meanwhile."""
    pipeline, result = improved[0].copy(), improved[1]
    former = pipeline.models.rollback(MODEL, BACK)
    with pytest.raises(Permanent, match="rolled back by edsger: it reads sevens as ones"):
        promote_candidate(result, models=pipeline.models, who="ada", at=AT)
    assert pipeline.models.champion(MODEL) == former


def test_a_gate_result_comes_back_from_its_document(improved: tuple[Pipeline, GateResult]) -> None:
    """Another task reads it."""
    assert GateResult.of(improved[1].document()) == improved[1]


@pytest.mark.parametrize("document", [{}, {"bundle": None}, {"promote": "perhaps"}])
def test_what_is_no_gate_result_is_refused(document: dict[str, object]) -> None:
    """The error names the wrong field."""
    with pytest.raises(Permanent, match="not a gate result"):
        GateResult.of(document)


# --- rollback


def test_after_a_rollback_the_next_run_uses_the_former_champion(
    weak: Pipeline, improved: tuple[Pipeline, GateResult]
) -> None:
    """Records that were classified before keep their predictions."""
    pipeline = improved[0].copy()
    pipeline.add_digit("before", 1)
    pipeline.run("classify/before")
    former = pipeline.models.rollback(MODEL, BACK)
    pipeline.add_digit("after", 2)
    pipeline.run("classify/after")
    digests = [
        pipeline.records.document(name)["prediction"]["model"]["digest"] for name in ("before", "after")
    ]
    assert digests == [improved[1].bundle.digest, former.digest]
    assert former == weak.models.champion(MODEL)


def test_a_bundle_counts_as_rolled_back_until_it_is_promoted_again(
    improved: tuple[Pipeline, GateResult],
) -> None:
    """Being followed by a better one is no rollback."""
    pipeline, bundle = improved[0].copy(), improved[1].bundle
    former = pipeline.models.history(MODEL)[0].former
    assert former is not None
    assert rolled_back(former, pipeline.models.history(MODEL)) is None
    pipeline.models.rollback(MODEL, BACK)
    assert rolled_back(bundle, pipeline.models.history(MODEL)) == pipeline.models.history(MODEL)[0]
    assert pipeline.models.promote(bundle, former, PROMOTION)
    assert rolled_back(bundle, pipeline.models.history(MODEL)) is None


# --- promotions by a person's word


def test_a_refused_version_is_promoted_by_force_alone(candidate: tuple[Pipeline, GateResult]) -> None:
    """Without it the error has the gate's numbers."""
    pipeline, result = candidate[0].copy(), candidate[1]
    model = _version(pipeline, 2)
    with pytest.raises(Permanent, match=r"no better than the champion: .* p = 1, .*--force"):
        promote_version(model, models=pipeline.models, promotion=PROMOTION)
    assert pipeline.models.champion(MODEL) != result.bundle
    assert promote_version(model, models=pipeline.models, promotion=PROMOTION, force=True)
    assert pipeline.models.champion(MODEL) == result.bundle
    assert pipeline.models.history(MODEL)[0].promotion == PROMOTION


def test_a_version_that_passed_needs_no_force(first_candidate: tuple[Pipeline, GateResult]) -> None:
    """A candidate that waited for a person's decision."""
    pipeline, result = first_candidate[0].copy(), first_candidate[1]
    assert promote_version(_version(pipeline, 1), models=pipeline.models, promotion=PROMOTION)
    assert pipeline.models.champion(MODEL) == result.bundle


def test_a_version_that_the_gate_never_saw_needs_force(candidate: tuple[Pipeline, GateResult]) -> None:
    """It was never compared with the champion."""
    model = replace(_version(candidate[0], 2), decision=None)
    with pytest.raises(Permanent, match="never decided"):
        promote_version(model, models=candidate[0].models, promotion=PROMOTION)


def _overtaken(better: tuple[Pipeline, GateResult]) -> tuple[Pipeline, BundleRef, BundleRef]:
    """A version 2 that passed against version 1, which 9 replaced meanwhile; versions 1 and 9."""
    pipeline = better[0].copy()
    compared = pipeline.models.champion(MODEL)
    assert compared is not None
    newer = BundleRef(MODEL, 9, "memory://objects/models/newer", "sha256:newer")
    assert pipeline.models.promote(newer, compared, PROMOTION)
    return pipeline, compared, newer


def test_a_version_that_passed_against_the_champion_needs_no_force(
    better: tuple[Pipeline, GateResult],
) -> None:
    """It was compared with the champion that it replaces."""
    pipeline, result = better[0].copy(), better[1]
    assert promote_version(_version(pipeline, 2), models=pipeline.models, promotion=PROMOTION)
    assert pipeline.models.champion(MODEL) == result.bundle


def test_a_version_that_passed_against_another_champion_needs_force(
    better: tuple[Pipeline, GateResult],
) -> None:
    """The error names both; it was never compared with the champion that it would replace."""
    pipeline, compared, newer = _overtaken(better)
    model = _version(pipeline, 2)
    said = (
        f"{MODEL} 2: it was compared with version 1 ({compared.digest}), and the champion is version 9 "
        "(sha256:newer); evaluate it again; --force promotes it anyway"
    )
    with pytest.raises(Permanent) as refused:
        promote_version(model, models=pipeline.models, promotion=PROMOTION)
    assert str(refused.value) == said
    assert pipeline.models.champion(MODEL) == newer
    assert promote_version(model, models=pipeline.models, promotion=PROMOTION, force=True)


def test_the_same_version_with_another_digest_is_another_champion(
    better: tuple[Pipeline, GateResult],
) -> None:
    """A version number alone does not tell what was measured."""
    pipeline = better[0].copy()
    model = _version(pipeline, 2)
    assert model.decision is not None
    assert model.decision.compared_with is not None
    other = replace(model.decision.compared_with, digest="sha256:other")
    model = replace(model, decision=replace(model.decision, compared_with=other))
    with pytest.raises(Permanent, match=r"version 1 \(sha256:other\), and the champion is version 1 "):
        promote_version(model, models=pipeline.models, promotion=PROMOTION)


def test_one_that_passed_as_the_first_needs_force_where_there_is_a_champion(
    first_candidate: tuple[Pipeline, GateResult],
) -> None:
    """It was compared with nothing."""
    pipeline = first_candidate[0].copy()
    newer = BundleRef(MODEL, 9, "memory://objects/models/newer", "sha256:newer")
    assert pipeline.models.promote(newer, None, PROMOTION)
    with pytest.raises(Permanent, match="compared with none, and the champion is version 9"):
        promote_version(_version(pipeline, 1), models=pipeline.models, promotion=PROMOTION)


def test_promoting_the_champion_by_hand_changes_nothing(released: Pipeline) -> None:
    """It returns False."""
    pipeline = released.copy()
    assert not promote_version(_version(pipeline, 1), models=pipeline.models, promotion=BACK)
    assert pipeline.models.history(MODEL) == released.models.history(MODEL)
