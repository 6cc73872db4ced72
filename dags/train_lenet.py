"""Train LeNet-5 on the human-labelled records and release it.

1. `plan` checks the parameters, so a wrong one fails before anything starts.
2. `snapshot` and `fetch` copy all labelled records and their images to S3. Images that an earlier data set
   already has are reused.
3. `build_dataset` splits them into train, validation and test folds by the hash of the image's bytes.
4. `train` runs once for each trial of the sweep, or once for a single configuration: each in a fresh process,
   on the queue `gpu`, one at a time.
5. `choose` picks the trial with the best validation result. `evaluate` measures it and the champion on the
   same test fold. `release` makes a bundle and registers it as a candidate.
6. `approve` waits for a person, if a run or the settings ask for that. `promote` makes the candidate the
   champion if the gate allows it. Only one run is active at a time, so an unanswered approval delays the next
   run, by two days at most.

If `MNIST_OPS_TRAINING_INSTANCE_ID` names an EC2 instance, it is started before the training and stopped after
it, regardless of the outcome. If no record is labelled, the run is skipped from `fetch` on.
"""

from datetime import timedelta

import pendulum
from airflow.sdk import CronDataIntervalTimetable, Param, dag

from mnist_airflow.assets import MODEL_PROMOTED, MODEL_RELEASED
from mnist_airflow.operators import (
    ApprovePromotionOperator,
    BuildDatasetOperator,
    ChooseTrainingOperator,
    EvaluateModelOperator,
    FetchImagesOperator,
    PlanTrainingsOperator,
    PromoteModelOperator,
    ReleaseModelOperator,
    SnapshotRecordsOperator,
    TrainModelOperator,
)
from mnist_airflow.operators.instances import StartTrainingInstanceOperator, StopTrainingInstanceOperator

# The most common hyperparameters. All others go into `config`.
FIELDS = {
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
        enum=[None, "adamw", "adam", "sgd", "adadelta"],
        title="Optimizer",
        description="adamw, adam, sgd with momentum, or adadelta; empty for the default.",
    ),
    "seed": Param(
        None,
        type=["null", "integer"],
        minimum=0,
        title="Seed",
        description="Of the first weights and the order of examples; empty for the default.",
    ),
}

PARAMS = FIELDS | {
    "config": Param(
        None,
        type=["null", "object"],
        title="Configuration",
        description='Hyperparameters by name, such as {"network": "mnistnet"}; the fields above go first.',
    ),
    "sweep": Param(
        None,
        type=["null", "object"],
        additionalProperties={"type": "array", "minItems": 1},
        title="Sweep",
        description='Lists of values by name, such as {"kernel_sizes": [[3, 3], [5, 5]]}: every combination '
        "is trained, and the one that validates best goes on.",
    ),
    "require_approval": Param(
        default=False,
        type="boolean",
        title="Ask before promoting",
        description="Wait for a person's approval where the gate allows the promotion.",
    ),
}


@dag(
    dag_id="train_lenet",
    doc_md=__doc__,
    schedule=CronDataIntervalTimetable("@weekly", timezone="UTC"),
    start_date=pendulum.datetime(2020, 1, 1, tz="UTC"),
    catchup=False,
    # Every training takes all labelled records, so two at the same time would do the same work.
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
    """Plan, snapshot, fetch part by part, build the data set, train, choose, evaluate, release, promote."""
    plan = PlanTrainingsOperator(
        task_id="plan",
        config="{{ params.config }}",
        fields={name: f"{{{{ params.{name} }}}}" for name in FIELDS},
        sweep="{{ params.sweep }}",
    )
    snapshot = SnapshotRecordsOperator(task_id="snapshot", labelled=True)
    images = FetchImagesOperator.partial(task_id="fetch", reuse_images=True).expand(part=snapshot.output)
    dataset = BuildDatasetOperator(
        task_id="build_dataset", manifest=snapshot.output["manifest"], images=images.output
    )
    training = TrainModelOperator.partial(
        task_id="train",
        dataset=dataset.output,
        swept="{{ params.sweep }}",
        map_index_template="{{ trial }}",
        pool="gpu",
        queue="gpu",
        execution_timeout=timedelta(hours=12),
    ).expand(config=plan.output)
    # The next three tasks need torch too, so they run on the queue whose workers have it.
    choice = ChooseTrainingOperator(
        task_id="choose", manifest=snapshot.output["manifest"], trainings=training.output, queue="gpu"
    )
    evaluation = EvaluateModelOperator(task_id="evaluate", training=choice.output, queue="gpu")
    release = ReleaseModelOperator(
        task_id="release", evaluation=evaluation.output, queue="gpu", outlets=[MODEL_RELEASED]
    )
    # The instance is stopped before a person is asked: an answer may take days.
    approval = ApprovePromotionOperator(
        task_id="approve", gate_result=release.output, required="{{ params.require_approval }}"
    )
    PromoteModelOperator(
        task_id="promote", gate_result=release.output, approval=approval.output, outlets=[MODEL_PROMOTED]
    )
    plan >> snapshot

    start = StartTrainingInstanceOperator(task_id="start_instance", retries=5)
    # An instance that is not stopped costs money: retry for longer, and fail the run if it still runs.
    stop = StopTrainingInstanceOperator(task_id="stop_instance", retries=8)
    stop.as_teardown(setups=start, on_failure_fail_dagrun=True)
    # Stop only after all of them: when one training fails, others may still be running.
    dataset >> start >> training >> stop
    start >> [choice, evaluation, release] >> stop


train_lenet()
