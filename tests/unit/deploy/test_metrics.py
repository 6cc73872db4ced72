"""The Grafana dashboard asks for metrics that are really sent, under the names of Prometheus."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from mnist_airflow.metrics import Metric, late_metrics, ledger_metrics, stage_metrics
from mnist_ops.domain.ages import AgeSummary
from mnist_ops.domain.outcomes import Outcome
from mnist_ops.domain.reasons import Reason
from mnist_ops.domain.records import BundleRef
from mnist_ops.domain.stages import StageReport
from mnist_ops.serving.rest.metrics import Metrics
from tests.unit.domain.test_outcomes import ledger

ROOT = Path(__file__).parents[3]
DOCS = (ROOT / "docs" / "observability.md").read_text()
RULES = yaml.safe_load((ROOT / "deploy" / "statsd-mapping.yaml").read_text())["mappings"]
DASHBOARD = json.loads((ROOT / "deploy" / "grafana-dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
LATE = ledger(
    10,
    {str(outcome): 1 for outcome in Outcome},
    reasons={str(reason): 1 for reason in Reason},
    age=AgeSummary(1, 4.2, 11.0, 14.0),
    freshness_s=60.0,
)


def sent() -> list[Metric]:
    """Every metric of a step, of a run with all outcomes and reasons, and of a late run."""
    return [*stage_metrics(StageReport("fetch")), *ledger_metrics(LATE), *late_metrics(1.0)]


def mapped(metric: Metric) -> tuple[str, Mapping[str, str]] | None:
    """The name and the labels that statsd_exporter gives a metric: the first rule that matches."""
    for rule in RULES:
        pattern = re.escape(rule["match"]).replace(r"\*", "([^.]+)")
        found = re.fullmatch(pattern, f"airflow.{metric.name}")
        if found is not None and rule.get("match_metric_type", metric.kind) == metric.kind:
            named = re.sub(r"\$\{?(\d)\}?", r"\\\1", rule["name"])
            labels = {
                key: found.expand(value.replace("$", "\\")) for key, value in rule.get("labels", {}).items()
            }
            return found.expand(named), labels
    return None


def expressions() -> Iterator[str]:
    """What the panels ask for, and the conditions of the alerts that the documentation recommends."""
    for panel in PANELS:
        yield from (target["expr"] for target in panel["targets"])
    table = DOCS.partition("## Alerts to set")[2].partition("\n## ")[0]
    found = re.findall(r"^\|[^|]+\| `((?:[^`|]|\\\|)*mnist_ops_.*?)` \|", table, re.MULTILINE)
    assert len(found) == table.count("mnist_ops_") - table.count("absent(mnist_ops_")
    yield from (condition.replace("\\|", "|") for condition in found)


def asked_for() -> Iterator[tuple[str, set[str]]]:
    """The metrics in these expressions, each with the labels that the expression names."""
    for expression in expressions():
        grouped = set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", expression)))) - {"le"}
        for name, labels in re.findall(r"(mnist_ops_\w+)(?:\{([^}]*)\})?", expression):
            yield name, grouped | set(re.findall(r"(\w+)=", labels))


def prometheus_names() -> dict[str, set[str]]:
    """The names of all metrics with their labels: those of the tasks, and those of the REST API."""
    known = {name: set(labels) for name, labels in filter(None, map(mapped, sent()))}
    rest = Metrics()
    rest.answered("/predict", 0.01)
    rest.batch(1)
    text = rest.text(BundleRef("lenet5", 7, "s3://bucket/models", "sha256:abc")).decode()
    for name, labels in re.findall(r"^(mnist_ops_\w+)(?:\{(.*)\})? ", text, re.MULTILINE):
        known[name] = set(re.findall(r"(\w+)=", labels))
    return known


def test_every_metric_has_its_own_name_in_prometheus() -> None:
    """Two that share one differ in a label; none is left to statsd_exporter's own names."""
    names = {metric.name: mapped(metric) for metric in sent()}
    assert [name for name, found in names.items() if found is None] == []
    assert len({str(found) for found in names.values()}) == len(names)


def test_the_dashboard_and_the_alerts_ask_for_metrics_that_are_sent() -> None:
    """With labels that they have."""
    known = prometheus_names()
    wrong = [(name, labels) for name, labels in asked_for() if not labels <= known.get(name, set())]
    assert [name for name, _ in asked_for() if name not in known] == []
    assert wrong == []


def test_runs_of_classify_records_are_counted_by_a_step_of_their_own() -> None:
    """train_lenet has a snapshot too."""
    named = {step for expression in expressions() for step in re.findall(r'step="(\w+)"', expression)}
    assert named <= {"assess", "publish", "reconcile"}


def test_a_counter_is_asked_for_by_its_increase_and_a_gauge_by_its_value() -> None:
    """The sum of a counter since its exporter was started tells nothing; its absence does."""
    for expression in expressions():
        counters = re.findall(r"(\w+)\([^()]*mnist_ops_\w+_(?:total|bucket|sum|count)\b", expression)
        named = re.findall(r"mnist_ops_\w+_(?:total|bucket|sum|count)\b", expression)
        assert len(counters) == len(named), expression
        assert set(counters) <= {"rate", "increase", "absent"}, expression


def test_a_panel_looks_back_over_at_least_two_scrapes() -> None:
    """`$__interval` may be shorter, and then there is no increase to see."""
    assert [expression for expression in expressions() if "$__interval" in expression] == []


def test_no_panel_covers_another() -> None:
    """Each has its own place in the 24 columns."""
    places = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(places) == len(set(places))
    assert max(x for x, _ in places) < 24


def test_every_panel_says_what_it_shows() -> None:
    """For who sees it at night for the first time."""
    unsaid: list[Any] = [panel["title"] for panel in PANELS if not panel["description"].endswith(".")]
    assert unsaid == []


def documented() -> Iterator[tuple[str, str]]:
    """The metrics in the table of the documentation, each with its type."""
    for cell, kind in re.findall(r"^\| (`mnist_ops[^|]*) \| (\w+) \|", DOCS, re.MULTILINE):
        first, *others = re.findall(r"`([^`]+)`", cell)
        yield first, kind
        for last in others:
            yield first.rpartition(".")[0] + last, kind


def test_the_documentation_has_every_metric_with_its_type() -> None:
    """And no other."""
    names = {metric.name.replace(".fetch.", ".<step>."): metric.kind for metric in sent()}
    names = {re.sub(r"outcomes\.\w+", "outcomes.<outcome>", name): kind for name, kind in names.items()}
    names = {re.sub(r"failures\.\w+", "failures.<reason>", name): kind for name, kind in names.items()}
    assert dict(documented()) == names
