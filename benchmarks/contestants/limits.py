"""What this machine's cores can do at most: decoding alone, and the network alone, on all of them."""

import io
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.contestants.place import Place, Stages
from mnist_ops.vision.bundle import MODEL
from mnist_ops.vision.cores import available_cores
from mnist_ops.vision.decode import decode_all
from mnist_ops.vision.inference import onnx_forward

BATCH = 256


def pillow(payloads: list[bytes]) -> float:
    """Seconds of Pillow alone."""
    started = time.perf_counter()
    for payload in payloads:
        np.asarray(Image.open(io.BytesIO(payload)))
    return time.perf_counter() - started


def ours(payloads: list[bytes]) -> float:
    """Seconds of our decoder alone."""
    started = time.perf_counter()
    for start in range(0, len(payloads), 1000):
        decode_all(payloads[start : start + 1000])
    return time.perf_counter() - started


def main(folder: Path) -> None:
    """Decode every picture of a folder in as many processes as cores; then run the network on all of them."""
    place, stages = Place.of_environment(), Stages()
    payloads = [path.read_bytes() for path in sorted(folder.rglob("*.png"))[: place.limit]]
    cores = available_cores()
    shares = [payloads[start::cores] for start in range(cores)]
    with ProcessPoolExecutor(cores) as pool:
        list(pool.map(ours, [share[:100] for share in shares]))  # the processes start
        for name, way in (("decode_pillow", pillow), ("decode", ours)):
            stages.seconds[name] = max(pool.map(way, shares))
    digits, _ = decode_all(payloads)
    forward = onnx_forward(Path(place.weights).with_name(MODEL).read_bytes(), cores)
    forward(digits[:BATCH])
    with stages.stage("network"):
        for start in range(0, len(digits), BATCH):
            forward(digits[start : start + BATCH])
    stages.tell()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
