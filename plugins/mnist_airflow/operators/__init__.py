"""The steps of MNIST Ops as Airflow operators.

Those of the training machine are in `mnist_airflow.operators.instances`: they bring boto3 along.
"""

from mnist_airflow.operators.approval import ApprovePromotionOperator
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
