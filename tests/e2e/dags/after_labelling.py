"""A DAG of somebody else's that waits for labelled records."""

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

from mnist_airflow.assets import RECORDS_LABELLED

with DAG("after_labelling", schedule=[RECORDS_LABELLED], catchup=False):
    EmptyOperator(task_id="report")
