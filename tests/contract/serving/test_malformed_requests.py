"""The REST API behind its real server, and clients that do everything wrong."""

import json
import socket
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np
import pytest
import requests
import uvicorn

from mnist_ops.cli.serve import listening, server_config
from mnist_ops.domain.keys import sha256_hex
from mnist_ops.domain.labels import DIGITS
from mnist_ops.domain.ports import RegisteredModel
from mnist_ops.domain.records import BundleRef
from mnist_ops.serving.alone import alone_app
from mnist_ops.vision.inference.classifier import Predictions
from tests.support.malformed_requests import answer_of, malformed_requests
from tests.support.pipeline_in_memory import AT, MODEL, PROMOTION, Pipeline, png_of


class SureOfSeven:
    """A classifier that is sure that everything is a seven."""

    device, labels = "cpu", DIGITS.names

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Seven."""
        return self.predict(images).probabilities

    def predict(self, images: np.ndarray) -> Predictions:
        """Seven."""
        zeros = np.zeros(len(images), np.float32)
        return Predictions(np.eye(10, dtype=np.float32)[[7] * len(images)], zeros, zeros > 1)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The port of the application, served by uvicorn as `mnist-ops serve` does, over a model in memory."""
    pipeline = Pipeline(load=lambda *_: SureOfSeven())
    card = json.dumps({"files": {}}).encode()
    pipeline.objects.put_bytes("models/1/card.json", card)
    bundle = BundleRef(MODEL, 1, pipeline.objects.uri("models/1"), f"sha256:{sha256_hex(card)}")
    pipeline.models.reserve(MODEL, "training")
    pipeline.models.register(RegisteredModel(bundle, "training", {}, AT))
    pipeline.models.promote(bundle, None, PROMOTION)
    app = alone_app(pipeline.steps(fetch_max_bytes=100_000))
    server = uvicorn.Server(server_config(lambda: app, workers=1))
    with listening("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join()


def statuses(port: int, count: int) -> dict[str, set[int | None]]:
    """The statuses that malformed requests get, by their kind."""
    found: dict[str, set[int | None]] = defaultdict(set)
    for request in malformed_requests(count):
        found[request.kind].add(answer_of(port, request))
    return dict(found)


def test_malformed_requests_are_refused_and_the_server_stays_healthy(port: int) -> None:
    """300 of 14 kinds, each with the status that says what is wrong; then a good one is answered."""
    found = statuses(port, 300)
    # The client may still be sending when the server closes the connection, and then sees no answer.
    assert found.pop("a chunked body over the limit") <= {413, None}
    assert found == {
        "truncated image": {422},
        "random bytes": {422},
        "a flipped bit": {422},
        "a huge declared length": {413},
        "a body shorter than declared": {None},
        "a wrong chunk": {400},
        "a broken multipart body": {400},
        "a multipart body without its end": {400},
        "another method": {405, 400},
        "no HTTP": {400},
        "an empty body": {400},
        "another type": {415},
        "a body that stops, and a client that leaves": {None},
    }
    address = f"http://127.0.0.1:{port}"
    answer = requests.post(f"{address}/predict", files={"file": png_of(0)}, timeout=10)
    assert (answer.status_code, answer.json()["label"]) == (200, "seven")
    assert requests.get(f"{address}/healthz", timeout=10).status_code == 200


def test_slow_clients_do_not_keep_others_waiting(port: int) -> None:
    """Fifty that have sent half of a body, while others are answered within a second."""
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nhalf"
    with ExitStack() as slow:
        for _ in range(50):
            connection = slow.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            connection.sendall(head)
        for _ in range(10):
            answer = requests.post(f"http://127.0.0.1:{port}/predict", data=png_of(0), timeout=10)
            assert answer.status_code == 200
