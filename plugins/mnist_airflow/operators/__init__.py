"""The steps of MNIST Ops as Airflow operators."""

from mnist_airflow.operators.records import (
    AssessRunOperator,
    ClassifyImagesOperator,
    FetchImagesOperator,
    PublishPredictionsOperator,
    ReconcileRunOperator,
    SnapshotRecordsOperator,
)
from mnist_airflow.operators.training import (
    BuildDatasetOperator,
    EvaluateModelOperator,
    ReleaseModelOperator,
    TrainModelOperator,
)

__all__ = [
    "AssessRunOperator",
    "BuildDatasetOperator",
    "ClassifyImagesOperator",
    "EvaluateModelOperator",
    "FetchImagesOperator",
    "PublishPredictionsOperator",
    "ReconcileRunOperator",
    "ReleaseModelOperator",
    "SnapshotRecordsOperator",
    "TrainModelOperator",
]
