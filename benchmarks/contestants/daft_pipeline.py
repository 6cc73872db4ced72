"""The same work in Daft, the fastest peer measured: download, decode and a class for the model.

Daft (getdaft.io) is no package of this project; the driver runs this where it is installed.
"""

import json
from typing import Any

import daft
import numpy as np
import torch
from pymongo import MongoClient

from benchmarks.contestants.place import Place, Stages
from mnist_ops.domain.labels import DIGITS
from mnist_ops.vision.models.weights import network_from

BATCH = 256
PLACE = Place.of_environment()


@daft.cls
class Classify:
    """The network, loaded once a worker."""

    def __init__(self) -> None:
        with open(PLACE.weights, "rb") as file:  # noqa: PTH123 (as people write it)
            self.network = network_from("lenet5", file.read())
        self.network.eval()

    @daft.method.batch(return_dtype=daft.DataType.int64(), batch_size=BATCH)
    def classes(self, images: daft.Series) -> list[int]:
        """The classes of a batch of grey 28x28 pictures."""
        pixels = torch.from_numpy(np.stack([np.asarray(image)[:, :, 0] for image in images.to_pylist()]))
        resized = torch.nn.functional.interpolate(
            pixels[:, None].float() / 255, size=(32, 32), mode="bilinear", align_corners=False
        )
        with torch.inference_mode():
            found: list[int] = self.network((resized - 0.1307) / 0.3081).argmax(1).tolist()
        return found


def main() -> None:
    """Classify a collection's records."""
    stages = Stages()
    client: MongoClient[dict[str, Any]] = MongoClient("127.0.0.1", PLACE.mongo_port)
    with stages.stage("all"):
        cursor = client[PLACE.database].records.find({"label": None}, {"image_url": 1})
        records = list(cursor.limit(PLACE.limit))
        client.close()
        frame = daft.from_pydict(
            {"id": [record["_id"] for record in records], "url": [record["image_url"] for record in records]}
        )
        image = daft.col("url").download(on_error="null").decode_image(mode="L")
        found = frame.with_column("class", Classify().classes(image)).select("id", "class").to_pydict()
        with open(PLACE.output, "w") as results:  # noqa: PTH123
            results.writelines(
                json.dumps({"id": record_id, "label": DIGITS.name(index)}) + "\n"
                for record_id, index in zip(found["id"], found["class"], strict=True)
            )
    stages.print_report()


main()
