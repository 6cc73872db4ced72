"""The embedded S3: SeaweedFS, persistent, with keys of its own."""

import json

from mnist_ops.local.credentials import Credentials
from mnist_ops.local.layout import Layout
from mnist_ops.local.ports import HOST, Ports
from mnist_ops.local.readiness import Probe, request
from mnist_ops.local.service import Service, inherited_environment, program

NAME = "s3"
BUCKET = "mnist-ops"
REGION = "us-east-1"

# A volume is a file that grows; small ones free disk space sooner after deletions.
_VOLUME_MB = 64
_MAX_VOLUMES = 400


def service(layout: Layout, ports: Ports, credentials: Credentials) -> Service:
    """Describe the store's process; it creates the bucket when it starts."""
    internal = ports.s3_internal
    names = (
        *("master.port", "master.port.grpc", "volume.port", "volume.port.grpc"),
        *("filer.port", "filer.port.grpc", "s3.port.grpc"),
        # It listens on these even where its pages are off.
        *("admin.port", "admin.port.grpc"),
    )
    command = (
        *(program("weed"), "-logtostderr=true", "mini"),
        *(f"-dir={layout.data(NAME)}", f"-ip={HOST}", f"-ip.bind={HOST}", f"-bucket={BUCKET}"),
        *(f"-s3.port={ports.s3}", "-s3.port.iceberg=0", "-s3.port.lance=0"),
        *(f"-{name}={internal + offset}" for offset, name in enumerate(names)),
        *("-admin.ui=false", "-webdav=false", "-master.telemetry=false"),
        *(f"-master.volumeSizeLimitMB={_VOLUME_MB}", f"-volume.max={_MAX_VOLUMES}"),
    )
    keys = {
        "AWS_ACCESS_KEY_ID": credentials.s3_access_key,
        "AWS_SECRET_ACCESS_KEY": credentials.s3_secret_key,
    }
    return Service(NAME, command, {**inherited_environment(), **keys}, probe(ports))


def endpoint(ports: Ports) -> str:
    """Return the URL of the S3 API."""
    return f"http://{HOST}:{ports.s3}"


def probe(ports: Ports) -> Probe:
    """Return a probe of whether S3 answers, has the bucket, and can store objects."""
    master, filer = (f"http://{HOST}:{ports.s3_internal + offset}" for offset in (0, 4))
    accept = {"Accept": "application/json"}

    def missing() -> str | None:
        if request(endpoint(ports)) is None:
            return f"an answer at {HOST}:{ports.s3}"
        # To the filer a bucket is a folder, and it requires no signature.
        answer = request(f"{filer}/buckets/{BUCKET}/?limit=1", headers=accept)
        if answer is None or answer[0] != 200:
            return f"the bucket {BUCKET}"
        # On a busy machine volumes join seconds later; until then every write is an internal error.
        answer = request(f"{master}/dir/status", headers=accept)
        joined = answer is not None and answer[0] == 200 and json.loads(answer[1])["Topology"]["Max"] > 0
        return None if joined else "its volumes"

    return missing


def connection(ports: Ports, credentials: Credentials) -> dict[str, object]:
    """Return Airflow's connection `aws_default`."""
    return {
        "conn_type": "aws",
        "login": credentials.s3_access_key,
        "password": credentials.s3_secret_key,
        "extra": {
            "region_name": REGION,
            "endpoint_url": endpoint(ports),
            "config_kwargs": {"signature_version": "s3v4", "s3": {"addressing_style": "path"}},
        },
    }
