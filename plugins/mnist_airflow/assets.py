"""The assets that the DAGs update; other DAGs can be scheduled on them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, AssetWatcher

from mnist_airflow.triggers.records_arrived import RecordsArrivedTrigger

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context

RECORDS_LABELLED = Asset(name="mnist_ops_records_labelled", uri="x-mnist-ops://records/labelled")
# Its events come from the records themselves. A run that it starts queries what waits.
RECORDS_ARRIVED = Asset(
    name="mnist_ops_records_arrived",
    uri="x-mnist-ops://records/arrived",
    watchers=[
        AssetWatcher(
            name="mnist_ops_records", trigger=RecordsArrivedTrigger(after_runs_of="classify_records")
        )
    ],
)
MODEL_RELEASED = Asset(name="mnist_ops_model_released", uri="x-mnist-ops://models/released")
MODEL_PROMOTED = Asset(name="mnist_ops_model_promoted", uri="x-mnist-ops://models/promoted")


def update_assets(task: "BaseOperator", context: "Context", extra: Mapping[str, Any]) -> None:
    """Say more in the events of a running task's assets, such as which model it was."""
    for outlet in task.outlets:
        if isinstance(outlet, Asset):
            context["outlet_events"][outlet].extra = dict(extra)


def update_no_asset(task: "BaseOperator") -> None:
    """Let a running task end in success without an event: there is no news for who waits for its assets.

    Airflow makes one event for each outlet that the task has when it ends. The DAG goes on declaring them, so
    they are active and shown before the first event. Of an `AssetAlias` in their place neither would be true.
    """
    task.outlets = []
