"""The report about a model is stored beside its bundle."""

from pathlib import Path

from mnist_ops.steps.artifacts.bundles import download_bundle
from mnist_ops.steps.evaluate import read_evaluation
from mnist_ops.vision.inference.classifier import load_classifier
from tests.support.pipeline_in_memory import MODEL, Pipeline, Trained


def page_of(pipeline: Pipeline) -> str:
    """The champion's report, as it is stored."""
    champion = pipeline.models.champion(MODEL)
    assert champion is not None
    return pipeline.objects.get_bytes(f"{champion.uri}/report/index.html").decode()


def test_a_release_uploads_the_report_with_its_plots(released: Pipeline) -> None:
    """Under the bundle, before the card that makes it one."""
    champion = released.models.champion(MODEL)
    assert champion is not None
    prefix = champion.uri.removeprefix(released.objects.uri("")) + "/report/"
    names = {key.removeprefix(prefix) for key in released.objects.keys(prefix)}
    plots = {"confusion.png", "learning-curves.png", "reliability.png", "worst-examples.png"}
    assert names == {"index.html", "report.json"} | plots


def test_the_page_tells_the_evaluation(released: Pipeline, trained: Trained) -> None:
    """Name, version, digest, and the numbers that the gate saw."""
    page, comparison = page_of(released), read_evaluation(released.objects, trained.evaluation)
    champion, test = released.models.champion(MODEL), comparison.challenger["test"]
    assert champion is not None
    for words in (f"{MODEL}, version 1", champion.digest, f"{test.accuracy:.2%}", f"{test.ece:.4f}"):
        assert words in page
    assert "There was no champion" in page


def test_a_model_evaluated_once_it_is_champion_is_not_its_own_rival(
    released: Pipeline, trained: Trained
) -> None:
    """Its report is written again, without a comparison that could only be a tie."""
    pipeline = released.copy()
    pipeline.release(pipeline.evaluate(trained.training))
    assert "no other champion than this model" in page_of(pipeline)


def test_inference_needs_no_report(released: Pipeline, tmp_path: Path) -> None:
    """It is not even downloaded."""
    champion = released.models.champion(MODEL)
    assert champion is not None
    folder = download_bundle(released.objects, champion, tmp_path)
    assert not (folder / "report").exists()
    assert load_classifier(folder, champion.digest).digest == champion.digest
