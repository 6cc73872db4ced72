"""Unit tests have no network, and share one small model that the real steps trained."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_socket import disable_socket, enable_socket

from mnist_ops.domain.records import BundleRef
from mnist_ops.steps.artifacts.bundles import download_bundle
from mnist_ops.steps.promote import GateResult, promote_candidate
from mnist_ops.vision.inference.classifier import Classifier, load_classifier
from tests.support.pipeline_in_memory import (
    MODEL,
    Loader,
    Pipeline,
    Trained,
    label_of,
    png_of,
    url_of,
)

DIGITS_LABELLED = 800


@pytest.fixture(autouse=True)
def no_network() -> Iterator[None]:
    """Whatever a unit test connects to must be in its own process."""
    disable_socket(allow_unix_socket=True)
    yield
    enable_socket()


@pytest.fixture(autouse=True)
def no_deployment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A deployment of other tests in this process, whose variables are set until the end, is not seen."""
    for name in [name for name in os.environ if name.startswith(("MNIST_OPS_", "AIRFLOW_CONN_"))]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def loader() -> Loader:
    """Loads a bundle once a session."""
    return Loader()


@pytest.fixture(scope="session")
def trained(loader: Loader) -> Trained:
    """A data set of real digits, and a training of it, made by the real steps."""
    pipeline = Pipeline(load=loader)
    for number in range(DIGITS_LABELLED):
        url = url_of(f"labelled-{number}")
        pipeline.images.images[url] = png_of(number, "train")
        pipeline.add(f"labelled-{number}", image_url=url, label=label_of(number, "train"))
    dataset = pipeline.dataset()
    training = pipeline.train(dataset, epochs=2, batch_size=32)
    return Trained(pipeline, dataset, training, pipeline.evaluate(training))


@pytest.fixture(scope="session")
def first_candidate(trained: Trained) -> tuple[Pipeline, GateResult]:
    """A pipeline in which that training is version 1, a candidate; copy it before changing it."""
    pipeline = trained.pipeline.copy()
    return pipeline, pipeline.release(trained.evaluation)


@pytest.fixture(scope="session")
def released(first_candidate: tuple[Pipeline, GateResult]) -> Pipeline:
    """That pipeline, after the candidate became champion; copy it before changing it."""
    pipeline, candidate = first_candidate[0].copy(), first_candidate[1]
    result = promote_candidate(candidate, models=pipeline.models, who="the tests", at=pipeline.at)
    assert result.promoted, result.why
    return pipeline


@pytest.fixture(scope="session")
def bundle(released: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the bundle that the session's model was released as."""
    champion = released.models.champion(MODEL)
    assert champion is not None
    return download_bundle(released.objects, champion, tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="session")
def classifier(bundle: Path) -> Classifier:
    """That bundle, loaded."""
    return load_classifier(bundle)


@pytest.fixture
def pipeline(released: Pipeline) -> Pipeline:
    """A pipeline with a champion, and no record yet."""
    fresh = Pipeline(load=released.load, models=released.copy().models)
    champion = fresh.models.champion(MODEL)
    assert champion is not None
    prefix = champion.uri.removeprefix(fresh.objects.uri(""))
    fresh.objects.objects = {
        key: data for key, data in released.objects.objects.items() if key.startswith(prefix)
    }
    return fresh


@pytest.fixture
def champion(pipeline: Pipeline) -> BundleRef:
    """The bundle that is in production in `pipeline`."""
    bundle = pipeline.models.champion(MODEL)
    assert bundle is not None
    return bundle
