"""A DAG that runs when records arrive in a collection of its own; it is not paused when it is found."""

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Asset, AssetWatcher

from mnist_airflow.triggers.records_arrived import RecordsArrivedTrigger

ARRIVED = Asset(
    name="arrivals",
    uri="x-tests://arrivals",
    watchers=[AssetWatcher("arrivals", RecordsArrivedTrigger(collection="arrivals"))],
)

with DAG("on_arrival", schedule=[ARRIVED], catchup=False, is_paused_upon_creation=False):
    EmptyOperator(task_id="report")
