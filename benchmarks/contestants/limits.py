"""What this machine's cores can do at most: decoding alone, and the network alone, on all of them.

It also measures what the classify step does between its shards: the same pictures, decoded and classified.
"""

import io
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.contestants.place import Place, Stages
from mnist_ops.steps.artifacts.shards import ROWS_PER_GROUP
from mnist_ops.vision.inference.bundle import MODEL
from mnist_ops.vision.inference.classifier import CPU_SLICE, load_classifier
from mnist_ops.vision.inference.cpu_count import cpu_count
from mnist_ops.vision.inference.onnx_backend import onnx_forward
from mnist_ops.vision.preprocessing.decode import decode_all


def pillow(payloads: list[bytes]) -> float:
    """Seconds of Pillow alone."""
    started = time.perf_counter()
    for payload in payloads:
        np.asarray(Image.open(io.BytesIO(payload)))
    return time.perf_counter() - started


def ours(payloads: list[bytes]) -> float:
    """Seconds of our decoder alone."""
    started = time.perf_counter()
    for start in range(0, len(payloads), ROWS_PER_GROUP):
        decode_all(payloads[start : start + ROWS_PER_GROUP])
    return time.perf_counter() - started


def main(folder: Path) -> None:
    """Decode every picture of a folder in as many processes as cores; then run the network on all of them."""
    place, stages = Place.of_environment(), Stages()
    payloads = [path.read_bytes() for path in sorted(folder.rglob("*.png"))[: place.limit]]
    cores = cpu_count()
    shares = [payloads[start::cores] for start in range(cores)]
    with ProcessPoolExecutor(cores) as pool:
        list(pool.map(ours, [share[:100] for share in shares]))  # the processes start
        for name, way in (("decode_pillow", pillow), ("decode", ours)):
            stages.seconds[name] = max(pool.map(way, shares))
    digits, _ = decode_all(payloads)
    bundle = Path(place.weights).parent
    forward, classifier = onnx_forward((bundle / MODEL).read_bytes()), load_classifier(bundle)
    batches = [digits[start : start + CPU_SLICE] for start in range(0, len(digits), CPU_SLICE)]
    groups = [payloads[start : start + ROWS_PER_GROUP] for start in range(0, len(payloads), ROWS_PER_GROUP)]
    decoding = threading.Lock()

    def predict(group: list[bytes]) -> None:
        with decoding:
            found, _ = decode_all(group)
        classifier.predict(found)

    with ThreadPoolExecutor(cores) as threads:
        list(threads.map(forward, batches[:cores]))  # the threads start
        with stages.stage("network"):
            list(threads.map(forward, batches))
        with stages.stage("decode_and_predict"):
            list(threads.map(predict, groups))
    stages.print_report()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
