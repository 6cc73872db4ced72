"""The metrics of an operator's steps reach a real collector, through the backend that Airflow has on."""

import gzip
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from airflow.sdk import DAG
from airflow.sdk._shared.observability.metrics.base_stats_logger import NoStatsLogger
from airflow.sdk.observability import stats
from airflow.sdk.observability.metrics.stats_utils import get_stats_factory
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from mnist_airflow.operators import SnapshotRecordsOperator
from tests.support.airflow_dags import make_known
from tests.support.environment import environment

SENDER = """
from airflow.sdk.observability import stats
from airflow.sdk.observability.metrics.stats_utils import get_stats_factory
from mnist_airflow.metrics import Metric, send

stats.initialize(factory=get_stats_factory(), export_legacy_names=False)
metrics = [Metric("mnist_ops.fetch.read_s", 1.5), Metric("mnist_ops.run.age_p95_s", 11.0, "gauge")]
send(metrics, {"dag_id": "classify_records"}, stats)
"""


@contextmanager
def metrics_as_in_a_task(**variables: str) -> Iterator[None]:
    """Metrics of this configuration, set up as Airflow does when a task's process starts."""
    made = []

    def backend() -> object:
        made.append(get_stats_factory()())
        return made[-1]

    with environment(**{f"AIRFLOW__METRICS__{name}": value for name, value in variables.items()}):
        stats.initialize(factory=backend, export_legacy_names=False)
        yield
        stats.initialize(factory=NoStatsLogger, export_legacy_names=False)
    for one in made:
        one.statsd.close()


def test_an_operators_step_reaches_a_statsd_server(deployment, run_any) -> None:
    """Over UDP, as counters after Airflow's own prefix."""
    pytest.importorskip("statsd", reason="requirements.lock has it; this environment is older")
    with DAG(dag_id="measured", schedule=None, start_date=datetime(2020, 1, 1, tzinfo=UTC)) as dag:
        SnapshotRecordsOperator(task_id="snapshot", labelled=True, collection="measured", retries=0)
    make_known(dag)
    with (
        deployment.collection("measured", *deployment.labelled(3)),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
    ):
        server.bind(("127.0.0.1", 0))
        server.settimeout(10)
        with metrics_as_in_a_task(STATSD_ON="True", STATSD_PORT=str(server.getsockname()[1])):
            run = run_any(dag, {})
        received = {}
        while "airflow.mnist_ops.snapshot.seconds" not in received:
            name, _, value = server.recv(1024).decode().partition(":")
            received[name] = value
    assert run.tasks == {"snapshot": "success"}
    assert received["airflow.mnist_ops.snapshot.records"] == "3|c"
    seconds, kind = received["airflow.mnist_ops.snapshot.seconds"].split("|")
    assert float(seconds) > 0
    assert kind == "c"


def test_metrics_reach_an_opentelemetry_collector_before_the_process_ends() -> None:
    """A task may be shorter than the interval of the exports; its process sends the rest when it ends."""
    received: dict[str, tuple[str, float, dict[str, str]]] = {}

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                for metric in (one for scope in resource.scope_metrics for one in scope.metrics):
                    kind = metric.WhichOneof("data")
                    point = getattr(metric, kind).data_points[-1]
                    tags = {tag.key: tag.value.string_value for tag in point.attributes}
                    received[metric.name] = (kind, point.as_double, tags)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing on standard error."""

    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_port}/v1/metrics"
        variables = {
            "AIRFLOW__METRICS__OTEL_ON": "True",
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        }
        subprocess.run([sys.executable, "-c", SENDER], env=os.environ | variables, check=True, timeout=240)
        server.shutdown()
    tags = {"dag_id": "classify_records"}
    assert received["airflow.mnist_ops.fetch.read_s"] == ("sum", 1.5, tags)
    assert received["airflow.mnist_ops.run.age_p95_s"] == ("gauge", 11.0, tags)
