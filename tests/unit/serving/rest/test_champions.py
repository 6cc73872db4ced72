"""The champion is replaced while requests are answered, and its state can be asked for."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from mnist_ops.domain.errors import Transient
from mnist_ops.domain.ports import RegisteredModel
from mnist_ops.domain.records import BundleRef
from mnist_ops.serving.access import Role
from mnist_ops.serving.rest.champions import Champions, NoChampion
from tests.support.pipeline_in_memory import AT, MODEL, PROMOTION, Pipeline, png_of

PNG = {"Content-Type": "image/png"}
POLL_S = 0.02


def champions_of(pipeline: Pipeline) -> Champions:
    """The champions of a pipeline; they are checked when a test does so."""
    steps = pipeline.steps(champion_poll_s=3_000)
    return Champions(lambda: steps)


def second_version(pipeline: Pipeline, champion: BundleRef, uri: str | None = None) -> BundleRef:
    """Register the champion's files as version 2 too."""
    training = "memory://objects/second"
    bundle = replace(champion, version=pipeline.models.reserve(MODEL, training), uri=uri or champion.uri)
    pipeline.models.register(RegisteredModel(bundle, training, {}, AT))
    return bundle


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait at most 20 s."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(POLL_S)


def test_a_promotion_in_the_middle_of_requests_fails_none_of_them(
    client, pipeline: Pipeline, champion: BundleRef
) -> None:
    """Four clients ask without a pause; each sees version 1, then version 2, and never 1 again."""
    api = client(Role.VIEWER, pipeline.steps(champion_poll_s=POLL_S))
    seen: list[list[int]] = [[], [], [], []]
    stop = threading.Event()

    def ask(versions: list[int]) -> None:
        while not stop.is_set():
            answer = api.post("/predict", content=png_of(0), headers=PNG)
            versions.append(answer.json()["model"]["version"] if answer.status_code == 200 else 0)

    threads = [threading.Thread(target=ask, args=(versions,)) for versions in seen]
    for thread in threads:
        thread.start()
    wait_until(lambda: all(1 in versions for versions in seen))
    assert pipeline.models.promote(second_version(pipeline, champion), champion, PROMOTION)
    wait_until(lambda: all(2 in versions for versions in seen))
    stop.set()
    for thread in threads:
        thread.join()
    for versions in seen:
        assert versions == sorted(versions)
        assert set(versions) == {1, 2}


def test_a_champion_that_cannot_be_loaded_is_logged_once_and_the_old_one_stays(
    pipeline: Pipeline, champion: BundleRef, caplog: pytest.LogCaptureFixture
) -> None:
    """Until somebody repairs it or rolls back."""
    champions = champions_of(pipeline)
    champions.check()
    broken = second_version(pipeline, champion, uri="memory://objects/models/nothing")
    assert pipeline.models.promote(broken, champion, PROMOTION)
    caplog.clear()  # Airflow's tests in the same process let the earlier line of the level INFO through
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            champions.check()
    assert champions.champion().bundle == champion
    (line,) = caplog.messages
    assert "models/nothing" in line
    assert "version 1 stays in use" in line


def test_without_a_champion_the_error_says_what_to_do() -> None:
    """And a check after a release finds it."""
    champions = champions_of(Pipeline(load=lambda *_: None))
    with pytest.raises(NoChampion, match="run train_lenet"):
        champions.champion()


def test_the_present_champion_is_not_loaded_again(pipeline: Pipeline) -> None:
    """A check that finds the same one keeps it."""
    champions = champions_of(pipeline)
    champions.check()
    first = champions.champion()
    champions.check()
    assert champions.champion() is first


@dataclass
class Unreachable:
    """A registry whose server does not answer."""

    def champion(self, name: str) -> BundleRef | None:
        """No answer."""
        raise Transient(f"mongo_default: no answer about {name}")


def test_a_server_is_ready_once_a_champion_is_loaded(client, champion: BundleRef) -> None:
    """It says which one."""
    answer = client(Role.VIEWER).get("/readyz")
    assert answer.status_code == 200
    expected = {"ready": True, "model": champion.identity(), "database": True, "problem": None}
    assert answer.json() == expected


def test_a_server_without_a_champion_is_not_ready(client) -> None:
    """It says what to do."""
    answer = client(Role.VIEWER, Pipeline(load=lambda *_: None).steps()).get("/readyz")
    assert answer.status_code == 503
    state = answer.json()
    assert (state["ready"], state["model"], state["database"]) == (False, None, True)
    assert "run train_lenet" in state["problem"]


def test_a_server_whose_database_stops_answering_is_not_ready_and_still_predicts(
    client, pipeline: Pipeline
) -> None:
    """The champion is in memory."""
    api = client(Role.VIEWER, pipeline.steps(champion_poll_s=3_000))
    assert api.get("/readyz").status_code == 200
    pipeline.models.champion = Unreachable().champion  # type: ignore[method-assign]
    api.app.state.predictions.champions.check()
    answer = api.get("/readyz")
    assert answer.status_code == 503
    assert (answer.json()["database"], answer.json()["model"]["version"]) == (False, 1)
    assert "no answer" in answer.json()["problem"]
    assert api.post("/predict", content=png_of(0), headers=PNG).status_code == 200


def test_a_check_that_never_ends_makes_the_server_not_ready(client, pipeline: Pipeline) -> None:
    """As seen from outside, after three missing checks and ten seconds."""
    api = client(Role.VIEWER, pipeline.steps(champion_poll_s=3_000))
    api.get("/readyz")
    champions = api.app.state.predictions.champions
    champions.last_check = replace(champions.last_check, at=time.monotonic() - 9_011)
    assert "for some time" in api.get("/readyz").json()["problem"]


def test_health_is_answered_without_a_champion(client) -> None:
    """The process is up."""
    answer = client(Role.VIEWER, Pipeline(load=lambda *_: None).steps()).get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_metrics_count_requests_by_outcome_and_name_the_model(client, champion: BundleRef) -> None:
    """With the latency of answers and the size of batches."""
    api = client(Role.VIEWER)
    for payload in (png_of(0), png_of(1), b"text"):
        api.post("/predict", content=payload, headers=PNG)
    text = api.get("/metrics").text
    assert 'mnist_ops_requests_total{outcome="answered",route="/predict"} 2.0' in text
    assert 'mnist_ops_requests_total{outcome="refused",route="/predict"} 1.0' in text
    assert 'mnist_ops_request_seconds_count{route="/predict"} 2.0' in text
    assert "mnist_ops_batch_images_sum 3.0" in text
    assert f'digest="{champion.digest}",name="lenet5",version="1"}} 1.0' in text
