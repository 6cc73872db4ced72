"""`mnist-ops serve` over one bundle in memory: the same application and the same server, without a database.

Run: python -m benchmarks.contestants.served_app PORT BUNDLE WORKERS
"""

import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from fastapi import FastAPI

from mnist_ops.adapters.memory.objects import InMemoryObjects
from mnist_ops.adapters.memory.registries import InMemoryModels
from mnist_ops.cli.serve import run_server
from mnist_ops.domain.champions import Promotion
from mnist_ops.domain.ports import RegisteredModel
from mnist_ops.domain.records import BundleRef
from mnist_ops.pipeline import Pipeline
from mnist_ops.serving.alone import alone_app
from mnist_ops.settings import Settings
from mnist_ops.steps.artifacts.bundles import upload_bundle
from mnist_ops.vision.inference.bundle import bundle_digest
from mnist_ops.vision.inference.classifier import load_classifier
from tests.support.doubles import Doubles

BUNDLE = "BENCHMARK_BUNDLE"


def app() -> FastAPI:
    """The application; each worker makes its own."""
    folder = Path(os.environ[BUNDLE])
    objects, models, at = InMemoryObjects(), InMemoryModels(), datetime(2026, 11, 28, tzinfo=UTC)
    settings = Settings(device="cpu")
    bundle = BundleRef(
        settings.model_name, 1, upload_bundle(objects, folder, "models/1"), bundle_digest(folder)
    )
    models.reserve(bundle.name, "benchmark")
    models.register(RegisteredModel(bundle, "benchmark", {}, at))
    models.promote(bundle, None, Promotion(at, "benchmark", "to be measured"))
    ports = Doubles(settings=settings, objects=objects, models=models, load=load_classifier)
    made = alone_app(Pipeline(ports))  # type: ignore[arg-type]  # its store needs no garbage collection
    made.state.predictions.champions.start()
    return made


if __name__ == "__main__":
    os.environ[BUNDLE] = sys.argv[2]
    run_server(f"{__spec__.name}:app", "127.0.0.1", int(sys.argv[1]), int(sys.argv[3]))
