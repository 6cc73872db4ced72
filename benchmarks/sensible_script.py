"""The baseline: what a sensible person writes in an afternoon.

`requests.Session` in 16 threads, Pillow, eager torch on batches of 256, results into a JSON lines file. It
reads the same records, images and weights as the pipeline, and has none of its guarantees.

Usage: sensible_script.py MONGO_PORT DATABASE WEIGHTS OUTPUT
"""

import io
import json
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import requests
import torch
from PIL import Image
from pymongo import MongoClient
from torchvision.transforms import v2

from mnist_ops.domain.labels import DIGITS
from mnist_ops.vision.weights import network_from

THREADS, BATCH = 16, 256

_local = threading.local()
_transform = v2.Compose(
    [
        v2.Resize((32, 32)),
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize((0.1307,), (0.3081,)),
    ]
)


def fetch(url: str) -> torch.Tensor:
    """Download and preprocess one image, to float32 (1, 32, 32)."""
    if not hasattr(_local, "session"):
        _local.session = requests.Session()
    response = _local.session.get(url, timeout=20)
    response.raise_for_status()
    picture: torch.Tensor = _transform(Image.open(io.BytesIO(response.content)).convert("L"))
    return picture


def batches(records: Iterator[dict[str, str]]) -> Iterator[list[dict[str, str]]]:
    """Records by the batch."""
    while batch := list(islice(records, BATCH)):
        yield batch


def main() -> None:
    """Classify all records of a collection."""
    port, database, weights, output = sys.argv[1:]
    with open(weights, "rb") as file:  # noqa: PTH123 (as people write it)
        network = network_from("lenet5", file.read())
    records = MongoClient("127.0.0.1", int(port))[database].records.find({"label": None}, {"image_url": 1})
    with open(output, "w") as results, ThreadPoolExecutor(THREADS) as pool, torch.inference_mode():  # noqa: PTH123
        for batch in batches(iter(records)):
            pictures = torch.stack(list(pool.map(fetch, [record["image_url"] for record in batch])))
            for record, probabilities in zip(batch, network(pictures).softmax(1), strict=True):
                label = DIGITS.name(int(probabilities.argmax()))
                results.write(json.dumps({"id": record["_id"], "label": label}) + "\n")


main()
