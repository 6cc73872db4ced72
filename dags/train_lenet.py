"""Train LeNet-5 on the human-labelled records and release it.

All labelled records are snapshotted, their images fetched (or taken from where an earlier data set
keeps them), and split into folds by the hash of the images' bytes. The network is trained in a fresh
process on the `gpu` queue, measured on the test fold beside the champion, packed into a bundle and
registered. The first good bundle becomes champion; a later one only if it is at least as accurate
on the same test fold. With nothing labelled, the run is skipped from the fetching on.
"""

from datetime import timedelta

import pendulum
from airflow.sdk import CronDataIntervalTimetable, Param, dag

from mnist_airflow.assets import MODEL_RELEASED
from mnist_airflow.operators import (
    BuildDatasetOperator,
    EvaluateModelOperator,
    FetchImagesOperator,
    ReleaseModelOperator,
    SnapshotRecordsOperator,
    TrainModelOperator,
)

PARAMS = {
    "epochs": Param(
        None,
        type=["null", "integer"],
        minimum=1,
        maximum=1000,
        title="Epochs",
        description="Passes over the training fold; empty for the default.",
    ),
    "batch_size": Param(
        None,
        type=["null", "integer"],
        minimum=1,
        maximum=65536,
        title="Batch size",
        description="Examples a step; empty for the default.",
    ),
    "learning_rate": Param(
        None,
        type=["null", "number"],
        exclusiveMinimum=0,
        maximum=10,
        title="Learning rate",
        description="The peak of the one-cycle schedule; empty for the default.",
    ),
    "optimizer": Param(
        None,
        type=["null", "string"],
        enum=[None, "adamw", "sgd"],
        title="Optimizer",
        description="adamw, or sgd with momentum; empty for the default.",
    ),
    "seed": Param(
        None,
        type=["null", "integer"],
        minimum=0,
        title="Seed",
        description="Of the first weights and the order of examples; empty for the default.",
    ),
}


@dag(
    dag_id="train_lenet",
    doc_md=__doc__,
    schedule=CronDataIntervalTimetable("@weekly", timezone="UTC"),
    start_date=pendulum.datetime(2020, 1, 1, tz="UTC"),
    catchup=False,
    # A training takes all labelled records there are, so two at a time would only repeat each other.
    max_active_runs=1,
    params=PARAMS,
    render_template_as_native_obj=True,
    tags=["mnist-ops", "training"],
    default_args={
        "owner": "mnist-ops",
        "retries": 2,
        "retry_delay": timedelta(seconds=10),
        "retry_exponential_backoff": 2.0,
        "max_retry_delay": timedelta(minutes=10),
        "execution_timeout": timedelta(hours=1),
    },
)
def train_lenet() -> None:
    """Snapshot, fetch part by part, build the data set, train, evaluate, release."""
    snapshot = SnapshotRecordsOperator(task_id="snapshot", labelled=True)
    images = FetchImagesOperator.partial(task_id="fetch", reuse_images=True).expand(part=snapshot.output)
    dataset = BuildDatasetOperator(
        task_id="build_dataset", manifest=snapshot.output["manifest"], images=images.output
    )
    training = TrainModelOperator(
        task_id="train",
        dataset=dataset.output,
        config={name: f"{{{{ params.{name} }}}}" for name in PARAMS},
        pool="gpu",
        queue="gpu",
        execution_timeout=timedelta(hours=12),
    )
    # These two need torch as well, so they run where it is installed.
    evaluation = EvaluateModelOperator(task_id="evaluate", training=training.output, queue="gpu")
    ReleaseModelOperator(
        task_id="release", evaluation=evaluation.output, queue="gpu", outlets=[MODEL_RELEASED]
    )


train_lenet()
