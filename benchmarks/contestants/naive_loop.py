"""The naive tutorial loop: one record after the other, `requests.get`, Pillow, eager torch on one image."""

import io
import json
from typing import Any

import requests
import torch
from PIL import Image
from pymongo import MongoClient
from torchvision.transforms import v2

from benchmarks.contestants.place import Place, Stages
from mnist_ops.domain.labels import DIGITS
from mnist_ops.vision.models.weights import network_from

TRANSFORM = v2.Compose(
    [
        v2.Resize((32, 32)),
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize((0.1307,), (0.3081,)),
    ]
)


def main() -> None:
    """Classify a collection's records."""
    place, stages = Place.of_environment(), Stages()
    with open(place.weights, "rb") as file:  # noqa: PTH123 (as people write it)
        network = network_from("lenet5", file.read())
    network.eval()
    client: MongoClient[dict[str, Any]] = MongoClient("127.0.0.1", place.mongo_port)
    with stages.stage("all"), open(place.output, "w") as results, torch.no_grad():  # noqa: PTH123
        with client:
            records = list(client[place.database].records.find({"label": None}).limit(place.limit))
        for record in records:
            response = requests.get(record["image_url"], timeout=20)
            picture = TRANSFORM(Image.open(io.BytesIO(response.content)).convert("L"))
            probabilities = network(picture[None]).softmax(1)[0]
            label = DIGITS.name(int(probabilities.argmax()))
            results.write(json.dumps({"id": record["_id"], "label": label}) + "\n")
    stages.print_report()


main()
