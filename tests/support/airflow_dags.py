"""DAGs of tests, which are in no file, in Airflow's metadata."""

from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.models.serialized_dag import SerializedDagModel
from airflow.sdk import DAG
from airflow.serialization.definitions.dag import SerializedDAG
from airflow.serialization.serialized_objects import LazyDeserializedDAG
from airflow.utils.session import create_session


def make_known(dag: DAG) -> None:
    """Write a DAG that is in no file into Airflow's database, where `dag.test` wants it."""
    DagBundlesManager().sync_bundles_to_db()
    with create_session() as session:
        lazy = LazyDeserializedDAG.from_dag(dag)
        SerializedDAG.bulk_write_to_db("dags-folder", None, [lazy], session=session)
        SerializedDagModel.write_dag(lazy, bundle_name="dags-folder", session=session)
