"""The assets that the DAGs update; other DAGs can be scheduled on them."""

from airflow.sdk import Asset

RECORDS_LABELLED = Asset(name="mnist_ops_records_labelled", uri="x-mnist-ops://records/labelled")
MODEL_RELEASED = Asset(name="mnist_ops_model_released", uri="x-mnist-ops://models/released")
MODEL_PROMOTED = Asset(name="mnist_ops_model_promoted", uri="x-mnist-ops://models/promoted")
