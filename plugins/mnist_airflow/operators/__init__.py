"""The steps of MNIST Ops as Airflow operators.

The operators that start and stop the training instance are in `mnist_airflow.operators.instances`, since
they import boto3.
"""

from mnist_airflow.operators.approval import ApprovePromotionOperator
from mnist_airflow.operators.records import (
    AssessRunOperator,
    ClassifyImagesOperator,
    FetchImagesOperator,
    PublishPredictionsOperator,
    ReconcileRunOperator,
)
from mnist_airflow.operators.snapshot import SnapshotRecordsOperator
from mnist_airflow.operators.training import (
    BuildDatasetOperator,
    ChooseTrainingOperator,
    EvaluateModelOperator,
    PlanTrainingsOperator,
    PromoteModelOperator,
    ReleaseModelOperator,
    TrainModelOperator,
)

__all__ = [
    "ApprovePromotionOperator",
    "AssessRunOperator",
    "BuildDatasetOperator",
    "ChooseTrainingOperator",
    "ClassifyImagesOperator",
    "EvaluateModelOperator",
    "FetchImagesOperator",
    "PlanTrainingsOperator",
    "PromoteModelOperator",
    "PublishPredictionsOperator",
    "ReconcileRunOperator",
    "ReleaseModelOperator",
    "SnapshotRecordsOperator",
    "TrainModelOperator",
]
