"""The sensible script: what a capable person writes in an afternoon.

`requests.Session` in 16 threads, Pillow, eager torch on batches of 256, results into a JSON lines file. It
reads the same records, images and weights as the pipeline, and has none of its guarantees. Run as
`apart`, it first fetches everything and then classifies it, so that the two can be told apart.
"""

import io
import json
import sys
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar

import requests
import torch
from PIL import Image
from pymongo import MongoClient
from torchvision.transforms import v2

from benchmarks.contestants.place import Place, Stages
from mnist_ops.domain.labels import DIGITS
from mnist_ops.vision.models.weights import network_from

THREADS, BATCH = 16, 256

T = TypeVar("T")

_local = threading.local()
_transform = v2.Compose(
    [
        v2.Resize((32, 32)),
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize((0.1307,), (0.3081,)),
    ]
)


def download(url: str) -> bytes:
    """Download one image."""
    if not hasattr(_local, "session"):
        _local.session = requests.Session()
    response = _local.session.get(url, timeout=20)
    response.raise_for_status()
    content: bytes = response.content
    return content


def preprocess(content: bytes) -> torch.Tensor:
    """Decode one image to float32 (1, 32, 32)."""
    picture: torch.Tensor = _transform(Image.open(io.BytesIO(content)).convert("L"))
    return picture


def batches(items: Iterable[T]) -> Iterator[list[T]]:
    """Items by the batch."""
    source = iter(items)
    while batch := list(islice(source, BATCH)):
        yield batch


def labels(network: torch.nn.Module, pictures: list[torch.Tensor]) -> list[str]:
    """What the network says of a batch."""
    with torch.inference_mode():
        probabilities = network(torch.stack(pictures)).softmax(1)
    return [DIGITS.name(index) for index in probabilities.argmax(1).tolist()]


def records_of(client: MongoClient[dict[str, Any]], place: Place) -> list[dict[str, Any]]:
    """Ids and URLs of the records; closes the client."""
    with client:
        found = client[place.database].records.find({"label": None}, {"image_url": 1})
        return list(found.limit(place.limit))


def main() -> None:
    """Classify a collection's records."""
    place, stages = Place.of_environment(), Stages()
    with open(place.weights, "rb") as file:  # noqa: PTH123 (as people write it)
        network = network_from("lenet5", file.read())
    network.eval()
    client: MongoClient[dict[str, Any]] = MongoClient("127.0.0.1", place.mongo_port)
    apart = "apart" in sys.argv[1:]
    with open(place.output, "w") as results, ThreadPoolExecutor(THREADS) as pool:  # noqa: PTH123
        if apart:
            found = records_of(client, place)
            with stages.stage("fetch"):
                contents = list(pool.map(download, [record["image_url"] for record in found]))
            with stages.stage("classify"):
                for encoded in batches(contents):
                    labels(network, list(pool.map(preprocess, encoded)))
        else:
            with stages.stage("all"):
                for batch in batches(records_of(client, place)):
                    pictures = pool.map(lambda record: preprocess(download(record["image_url"])), batch)
                    results.writelines(
                        json.dumps({"id": record["_id"], "label": label}) + "\n"
                        for record, label in zip(batch, labels(network, list(pictures)), strict=True)
                    )
    stages.print_report()


main()
