"""What the benchmarks run on: an embedded stack, pictures behind nginx, records, and a champion."""

import itertools
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mnist_ops.adapters.mongo.connection import mongo_answers
from mnist_ops.domain.champions import Promotion
from mnist_ops.domain.ports import RegisteredModel
from mnist_ops.domain.records import BundleRef
from mnist_ops.local import sample_digits, stack
from mnist_ops.local.layout import Layout
from mnist_ops.local.ports import HOST
from mnist_ops.settings import Settings
from mnist_ops.steps.artifacts.bundles import upload_bundle
from mnist_ops.vision.config.schema import TrainingConfig
from mnist_ops.vision.data.examples import Examples
from mnist_ops.vision.inference.abstention import fit_abstention
from mnist_ops.vision.inference.bundle import bundle_digest
from mnist_ops.vision.models.torch_backend import trained_logits
from mnist_ops.vision.release.export import Provenance, write_bundle
from mnist_ops.vision.training import trainer as training
from mnist_ops.wiring import Adapters, adapters_of_environment
from tests.support.servers import free_ports_of_a_stack


def prepared_adapters(settings: Settings) -> Adapters:
    """The adapters of the running stack, with its bucket and its indexes."""
    adapters = adapters_of_environment(settings, {})
    adapters.objects.ensure_bucket()
    adapters.records.ensure_indexes()
    return adapters


def adapters_with_champion(folder: Path) -> Adapters:
    """The adapters of the stack in a folder, with a champion that is trained quickly."""
    adapters = prepared_adapters(Settings(local_dir=folder))
    train_model(folder / "bundle")
    enthrone(adapters, folder / "bundle")
    return adapters


def train_model(folder: Path) -> None:
    """Train quickly on the sample and write the bundle; its accuracy is of no matter here."""
    images, labels = sample_digits.load("train")
    learned = Examples(images[:5_000], labels[:5_000])
    held_out = Examples(images[5_000:6_000], labels[5_000:6_000])
    trained = training.train(learned, held_out, TrainingConfig(epochs=2), training.pick_device("cpu"))
    digest = f"sha256:{'0' * 64}"
    abstention = fit_abstention(learned, held_out.images, trained_logits(trained, held_out.images))
    write_bundle(folder, trained, held_out.images, {}, Provenance(digest, digest, abstention))


def enthrone(adapters: Adapters, bundle_folder: Path) -> None:
    """Make a bundle the champion of a database."""
    version = adapters.models.reserve("lenet5", "benchmark")
    uri = upload_bundle(adapters.objects, bundle_folder, "models/bench")
    bundle = BundleRef("lenet5", version, uri, bundle_digest(bundle_folder))
    now = datetime.now(UTC)
    adapters.models.register(RegisteredModel(bundle, "benchmark", {}, now))
    adapters.models.promote(bundle, None, Promotion(now, "the benchmark", "needs a champion"))


def store_pictures(folder: Path, count: int, data_dir: Path | None) -> None:
    """Write `count` different digits as PNG files, `00000.png` and so on, a thousand a folder."""
    digits, _ = sample_digits.load("train", data_dir or sample_digits.SAMPLE)
    for number in range(count):
        digit = digits[number % len(digits)].copy()
        digit[0, 0] = number // len(digits)  # in the corner: another picture, and the same digit
        path = folder / picture_name(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(sample_digits.png(digit))


def picture_name(number: int) -> str:
    """The path of a picture in its folder, and on the server."""
    return f"{number // 1000:03d}/{number:06d}.png"


def store_records(adapters: Adapters, images_url: str, count: int) -> None:
    """Store a record for every picture."""
    now = datetime.now(UTC)
    records = (
        {
            "_id": f"{number:06d}",
            "image_url": f"{images_url}/{picture_name(number)}",
            "created_at": now - timedelta(seconds=number + 1),
        }
        for number in range(count)
    )
    insert(adapters, records)


def insert(adapters: Adapters, records: Iterator[Mapping[str, object]]) -> None:
    """Insert records, up to 10,000 at a time."""
    while batch := list(itertools.islice(records, 10_000)):
        adapters.records.insert(*batch)


@contextmanager
def image_server(folder: Path, port: int, scratch: Path) -> Iterator[str]:
    """Serve a folder with nginx.

    Raises:
        RuntimeError: there is none, or it does not answer.
    """
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        raise RuntimeError("the benchmarks serve their pictures with nginx: install it (Debian: nginx-light)")
    scratch.mkdir(parents=True, exist_ok=True)
    scratch.chmod(0o755)
    config = scratch / "nginx.conf"
    config.write_text(
        f"""daemon off; worker_processes 1; pid {scratch}/pid; error_log {scratch}/errors; user root;
        events {{ worker_connections 1024; }}
        http {{
            access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;
            open_file_cache max=10000;
            types {{ image/png png; }}
            client_body_temp_path {scratch}/1; proxy_temp_path {scratch}/2; fastcgi_temp_path {scratch}/3;
            uwsgi_temp_path {scratch}/4; scgi_temp_path {scratch}/5;
            server {{ listen {HOST}:{port}; root {folder}; }}
        }}"""
    )
    process = subprocess.Popen([program, "-e", scratch / "errors", "-c", config, "-p", scratch])
    try:
        _wait_for(port)
        yield f"http://{HOST}:{port}"
    finally:
        process.terminate()
        process.wait(10)


def _wait_for(port: int) -> None:
    for _ in range(100):
        with socket.socket() as one:
            if not one.connect_ex((HOST, port)):
                return
        time.sleep(0.1)
    raise RuntimeError(f"nginx does not answer on port {port}")


@dataclass(frozen=True)
class Setting:
    """What a benchmark runs on.

    Attributes:
        folder: for whatever it writes.
        mongo_port: of the database.
        shared: settings of every pipeline here.
        images_url: of the pictures' server.
        bundle: the champion's folder.
    """

    folder: Path
    mongo_port: int
    shared: dict[str, str]
    images_url: str
    bundle: Path

    def adapters(self, database: str) -> Adapters:
        """The adapters of a database of its own, with its indexes and the champion."""
        settings = Settings(mongo_database=database, **self.shared)  # type: ignore[arg-type]
        adapters = prepared_adapters(settings)
        if adapters.models.champion("lenet5") is None:
            enthrone(adapters, self.bundle)
        return adapters

    def environment(self, database: str) -> dict[str, str]:
        """The variables of a process that works on a database."""
        variables = {f"MNIST_OPS_{name.upper()}": value for name, value in self.shared.items()}
        return os.environ | variables | {"MNIST_OPS_MONGO_DATABASE": database}


@contextmanager
def setting(pictures: int, data_dir: Path | None = None) -> Iterator[Setting]:
    """Start everything, with that many pictures, and stop it at the end."""
    with tempfile.TemporaryDirectory(prefix="mnist-ops-bench-") as name:
        folder, ports = Path(name), free_ports_of_a_stack()
        layout = Layout(folder / "stack")
        running = stack.up(
            layout, ports, mongo_answers=mongo_answers, parts=("mongo", "s3"), report_progress=print
        )
        try:
            store_pictures(folder / "pictures", pictures, data_dir)
            folder.chmod(0o755)
            train_model(folder / "bundle")
            with image_server(folder / "pictures", ports.images, folder / "nginx") as url:
                allowed = url.removeprefix("http://")
                shared = {"local_dir": str(layout.root), "allowed_hosts": allowed}
                yield Setting(folder, running.ports.mongo, shared, url, folder / "bundle")
        finally:
            stack.down(layout)


def store_large_records(adapters: Adapters, count: int) -> None:
    """Store records of some 400 bytes, whose pictures are nowhere."""
    now = datetime.now(UTC)
    records = (
        {
            "_id": f"{number:08d}",
            "image_url": f"http://images.example.org/{number:08d}.png",
            "created_at": now - timedelta(seconds=number + 1),
            "form": {"page": number % 97, "comment": f"{number * 2_654_435_761 % 2**64:020d}" * 13},
        }
        for number in range(count)
    )
    insert(adapters, records)
