"""train_lenet with a machine that is started for it, on moto's EC2: sweeps, failures and kills.

The runs are made once and looked at from many sides. The instance is named by the setting, and the same
AWS connection leads to SeaweedFS for objects and to moto for EC2.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.models.serialized_dag import SerializedDagModel
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException
from airflow.serialization.definitions.dag import SerializedDAG
from airflow.serialization.serialized_objects import LazyDeserializedDAG
from airflow.utils.session import create_session
from botocore.awsrequest import AWSResponse
from moto.server import ThreadedMotoServer

from mnist_airflow.operators.instances import StartTrainingInstanceOperator, StopTrainingInstanceOperator
from mnist_airflow.operators.training import PlanTrainingsOperator
from mnist_airflow.retries import RetryTransient
from tests.support.environment import environment

KERNELS = [[3, 3], [5, 5]]
WORK = ("train", "choose", "evaluate", "release")


@dataclass(frozen=True)
class Machine:
    """An EC2 instance of moto's.

    Attributes:
        ec2: a client.
        instance_id: its id.
        connection: a connection of type aws, as JSON, that leads to it.
    """

    ec2: Any
    instance_id: str
    connection: str

    @property
    def state(self) -> str:
        """Such as running or stopped."""
        found = self.ec2.describe_instances(InstanceIds=[self.instance_id])
        return found["Reservations"][0]["Instances"][0]["State"]["Name"]


@pytest.fixture
def machine(cloud) -> Iterator[Machine]:
    """A stopped instance that the AWS connection leads to."""
    with a_machine(*cloud) as machine:
        yield machine


@pytest.fixture(scope="module")
def cloud(deployment) -> Iterator[tuple[Any, str]]:
    """A client of moto's EC2, and its endpoint."""
    assert deployment.secrets  # the connection's keys, which are in the environment by now
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = json.loads(os.environ["AIRFLOW_CONN_AWS_DEFAULT"])
    ec2 = boto3.client(
        "ec2",
        endpoint_url=f"http://{host}:{port}",
        region_name="us-east-1",
        aws_access_key_id=keys["login"],
        aws_secret_access_key=keys["password"],
    )
    yield ec2, f"http://{host}:{port}"
    ec2.close()
    server.stop()


@contextmanager
def a_machine(ec2, endpoint) -> Iterator[Machine]:
    """A stopped instance, while the AWS connection leads to it and to SeaweedFS for objects."""
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    instance_id = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    ec2.stop_instances(InstanceIds=[instance_id])
    connection = json.loads(os.environ["AIRFLOW_CONN_AWS_DEFAULT"])
    connection["extra"]["service_config"] = {"ec2": {"endpoint_url": endpoint}}
    text = json.dumps(connection)
    with environment(AIRFLOW_CONN_AWS_DEFAULT=text):
        yield Machine(ec2, instance_id, text)


# A sweep


@pytest.fixture(scope="module")
def swept(deployment, cloud, run_dag) -> Any:
    """A run over two pairs of kernel sizes, with a machine; its model has a name of its own."""
    with (
        a_machine(*cloud) as machine,
        deployment.collection(
            "swept",
            *deployment.labelled(300),
            training_instance_id=machine.instance_id,
            model_name="swept",
        ),
    ):
        run = run_dag(
            "train_lenet",
            config={"network": "conv20-50-500", "epochs": 5},
            epochs=1,
            sweep={"kernel_sizes": KERNELS},
        )
        return run, machine.state


def test_every_trial_of_a_sweep_is_a_task(swept) -> None:
    """All of them succeed."""
    run, _ = swept
    assert run.state == "success"
    assert run.tasks["train"] == ["success"] * len(KERNELS)


def test_the_trials_differ_in_what_is_swept_alone(deployment, swept) -> None:
    """A field of the form goes before the same in the configuration."""
    run, _ = swept
    configs = [json.loads(deployment.read(uri))["config"] for uri in run.xcoms["train", "return_value"]]
    assert [config["kernel_sizes"] for config in configs] == KERNELS
    assert {(config["network"], config["epochs"]) for config in configs} == {("conv20-50-500", 1)}


def test_only_the_winner_meets_the_test_fold(deployment, swept) -> None:
    """One evaluation, of its training, is released."""
    run, _ = swept
    evaluation = json.loads(deployment.read(run.xcoms["evaluate", "return_value"]))
    assert evaluation["training"] == run.xcoms["choose", "return_value"]
    assert run.xcoms["release", "return_value"]["bundle"]["version"] == 1


def test_a_trial_is_shown_by_the_values_that_were_tried(swept) -> None:
    """In place of its number."""
    run, _ = swept
    assert run.map_names["train"] == [f"kernel_sizes {first},{second}" for first, second in KERNELS]


def test_the_machine_runs_before_the_first_trial_and_stops_after_the_release(swept) -> None:
    """Once each, however many trials there are."""
    run, state = swept
    started, stopped = (
        [match.start() for match in re.finditer(f"{word} EC2 instance", run.log)]
        for word in ("Starting", "Stopping")
    )
    trained = [match.start() for match in re.finditer("training conv20-50-500 on", run.log)]
    assert (len(started), len(trained), len(stopped)) == (1, len(KERNELS), 1)
    assert started[0] < min(trained) < max(trained) < run.log.index("swept 1: ") < stopped[0]
    assert state == "stopped"


# Runs that fail


@contextmanager
def trainings_killed() -> Iterator[list[int]]:
    """Kill every training process that this process starts meanwhile, as the kernel does when memory ends."""
    killed: list[int] = []
    done = threading.Event()

    def kill() -> None:
        while not done.wait(0.2):
            for child in psutil.Process().children(recursive=True):
                try:
                    if {"steps", "train"} <= set(child.cmdline()) and child.pid not in killed:
                        child.kill()
                        killed.append(child.pid)
                except psutil.NoSuchProcess:
                    continue

    watch = threading.Thread(target=kill)
    watch.start()
    try:
        yield killed
    finally:
        done.set()
        watch.join()


def test_killing_the_training_leaves_the_machine_stopped(deployment, machine, run_dag) -> None:
    """Every attempt of it, with SIGKILL; the run is red all the same."""
    with (
        deployment.collection("killed", *deployment.labelled(200), training_instance_id=machine.instance_id),
        trainings_killed() as killed,
    ):
        run = run_dag("train_lenet", epochs=1000)
    assert len(killed) == 1 + RetryTransient().fault_retries
    assert run.tasks["train"] == ["failed"]
    assert [run.tasks[task] for task in WORK[1:]] == ["upstream_failed"] * 3
    assert (run.tasks["start_instance"], run.tasks["stop_instance"]) == ("success", "success")
    assert (run.state, machine.state) == ("failed", "stopped")


def test_a_training_ends_with_a_task_that_is_killed(deployment, swept, tmp_path) -> None:
    """With SIGKILL, which leaves the task no time to end anything: the pipe that it held closes."""
    script = tmp_path / "task.py"
    script.write_text(
        "import sys\n"
        "from mnist_airflow.operators.training import TrainModelOperator\n"
        "config = {'network': 'conv20-50-500', 'epochs': 1000}\n"
        "TrainModelOperator(task_id='train', dataset=sys.argv[1], config=config).execute({})\n"
    )
    run, _ = swept
    log = tmp_path / "log"
    with deployment.collection("swept"), log.open("wb") as output:
        task = subprocess.Popen(
            [sys.executable, script, run.xcoms["build_dataset", "return_value"]],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
    try:
        training = process_that_trains(task, log)
        task.kill()
        assert task.wait() == -signal.SIGKILL
        gone, alive = psutil.wait_procs([training], timeout=20)
        assert (gone, alive) == ([training], [])
    finally:
        task.kill()
        task.wait()


def process_that_trains(task: subprocess.Popen[bytes], log: Path) -> psutil.Process:
    """The child of a task that trains, once its first epoch is over."""
    deadline = time.monotonic() + 120
    while "epoch" not in log.read_text() and time.monotonic() < deadline:
        assert task.poll() is None, log.read_text()
        time.sleep(0.1)
    children = psutil.Process(task.pid).children()
    [found] = [child for child in children if {"steps", "train"} <= set(child.cmdline())]
    return found


def test_with_nothing_labelled_the_machine_is_left_alone(deployment, machine, run_dag) -> None:
    """Neither task does anything."""
    with deployment.collection(
        "nothing_for_the_machine", *deployment.waiting(1), training_instance_id=machine.instance_id
    ):
        run = run_dag("train_lenet")
    assert (run.tasks["start_instance"], run.tasks["stop_instance"]) == ("skipped", "skipped")
    assert (run.state, machine.state) == ("success", "stopped")


@pytest.mark.parametrize(
    ("conf", "said"),
    [
        ({"sweep": {"kernel_sizes": [[3, 99]]}}, "kernel_sizes"),
        ({"konfig": {}}, "konfig: no such parameter"),
    ],
)
def test_a_wrong_configuration_fails_the_run_before_anything_starts(
    deployment, machine, run_dag, conf, said
) -> None:
    """No record is read, and no machine started; trying again would not help."""
    with deployment.collection("refused", training_instance_id=machine.instance_id):
        run = run_dag("train_lenet", **conf)
    assert run.tasks.pop("plan") == "failed"
    assert run.tries["plan"] == 1
    assert said in run.log
    assert set(run.tasks.values()) == {"upstream_failed"}
    assert machine.state == "stopped"


# The operators by themselves


def test_a_machine_that_is_named_by_an_argument_is_started_and_stopped(machine) -> None:
    """Whatever the setting says."""
    with environment(MNIST_OPS_TRAINING_INSTANCE_ID="i-00000000"):
        StartTrainingInstanceOperator(task_id="start", instance_id=machine.instance_id).execute(context())
        assert machine.state == "running"
        StopTrainingInstanceOperator(task_id="stop", instance_id=machine.instance_id).execute(context())
        assert machine.state == "stopped"


def test_a_machine_that_does_not_come_up_in_time_is_stopped_at_once(machine) -> None:
    """A teardown is not run after a setup that failed."""

    class Impatient(StartTrainingInstanceOperator):
        """Its time limit ends the waiting, as Airflow's does."""

        def execute(self, context: Any) -> None:
            self.hook.wait_for_state = self.give_up
            super().execute(context)

        def give_up(self, **_: object) -> None:
            assert machine.state == "running"
            raise TimeoutError("too slow")

    with pytest.raises(TimeoutError):
        Impatient(task_id="start", instance_id=machine.instance_id).execute(context())
    assert machine.state == "stopped"


def refused_to_stop(times: int) -> type[StartTrainingInstanceOperator]:
    """A start that takes too long, of an instance that EC2 so often refuses to stop, as a pending one."""
    left = iter(range(times))

    class Pending(StartTrainingInstanceOperator):
        def execute(self, context: Any) -> None:
            self.hook.wait_for_state = self.give_up
            self.hook.conn.meta.client.meta.events.register("before-send.ec2.StopInstances", self.refuse)
            super().execute(context)

        def give_up(self, **_: object) -> None:
            raise TimeoutError("too slow")

        def refuse(self, request: Any, **_: object) -> AWSResponse | None:
            return None if next(left, None) is None else AWSResponse(request.url, 400, {}, NotStoppable())

    class NotStoppable:
        def stream(self) -> Iterator[bytes]:
            yield b"<Response><Errors><Error><Code>IncorrectInstanceState</Code><Message>It is pending"
            yield b"</Message></Error></Errors><RequestID>1</RequestID></Response>"

    return Pending


def test_a_pending_machine_is_stopped_as_soon_as_that_is_possible(machine) -> None:
    """EC2 stops none before it runs."""
    with pytest.raises(TimeoutError, match="too slow"):
        refused_to_stop(2)(task_id="start", instance_id=machine.instance_id).execute(context())
    assert machine.state == "stopped"


def test_a_machine_that_cannot_be_stopped_is_told_beside_what_went_wrong_first(machine) -> None:
    """After a bounded time; it does not take the first error's place."""
    start = refused_to_stop(100)(task_id="start", instance_id=machine.instance_id, stop_timeout_s=0.0)
    with pytest.raises(TimeoutError, match="too slow") as raised:
        start.execute(context())
    [note] = raised.value.__notes__
    assert machine.instance_id in note
    assert "IncorrectInstanceState" in note
    assert machine.state == "running"


@pytest.fixture
def killed_start(machine, run_any) -> Iterator[Any]:
    """A run whose setup gets SIGTERM while it waits for the machine, under Airflow's own handler."""

    class Killed(StartTrainingInstanceOperator):
        def execute(self, context: Any) -> None:
            self.hook.wait_for_state = self.wait
            super().execute(context)

        def wait(self, **_: object) -> None:
            assert machine.state == "running"
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(30)  # which the signal ends
            raise AssertionError("nothing ended the waiting")

    with DAG("killed_start", schedule=None, start_date=datetime(2020, 1, 1, tzinfo=UTC)) as dag:
        start = Killed(task_id="start", instance_id=machine.instance_id)
        stop = StopTrainingInstanceOperator(task_id="stop", instance_id=machine.instance_id)
        start >> EmptyOperator(task_id="work") >> stop.as_teardown(setups=start)
    DagBundlesManager().sync_bundles_to_db()
    with create_session() as session:
        lazy = LazyDeserializedDAG.from_dag(dag)
        SerializedDAG.bulk_write_to_db("dags-folder", None, [lazy], session=session)
        SerializedDagModel.write_dag(lazy, bundle_name="dags-folder", session=session)
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield run_any(dag, {})
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_start_that_is_killed_while_it_waits_stops_the_machine(killed_start, machine) -> None:
    """Airflow's handler calls `on_kill` and raises nothing, and the teardown is not run."""
    assert killed_start.tasks["start"] == "failed"
    assert killed_start.tasks["stop"] == "upstream_failed"
    assert "nothing ended the waiting" not in killed_start.log
    assert machine.state == "stopped"


def test_a_kill_after_the_start_leaves_the_machine_to_its_teardown(machine) -> None:
    """The setup has succeeded, so the teardown will run; the trainings may be at work by then."""
    start = StartTrainingInstanceOperator(task_id="start", instance_id=machine.instance_id)
    start.execute(context())
    start.on_kill()
    assert machine.state == "running"


@pytest.mark.usefixtures("machine")
def test_an_instance_that_ec2_does_not_know_fails_for_good_by_its_name() -> None:
    """A start has retries for an hour, which would not bring it about."""
    start = StartTrainingInstanceOperator(task_id="start", instance_id="i-0123456789abcdef0")
    with pytest.raises(AirflowFailException, match=r"i-0123456789abcdef0.*InvalidInstanceID\.NotFound"):
        start.execute(context())


def test_a_wrong_instance_in_the_settings_fails_for_good_by_its_name() -> None:
    """No retry can fix it."""
    with (
        environment(MNIST_OPS_TRAINING_INSTANCE_ID="gpu-box"),
        pytest.raises(AirflowFailException, match="training_instance_id"),
    ):
        StopTrainingInstanceOperator(task_id="stop").execute(context())


def context() -> Any:
    """As much of a task's context as the operators of EC2 write their links to."""

    class Instance:
        def xcom_push(self, key: str, value: object) -> None:
            assert key
            assert value

    return {"ti": Instance()}


# The plan


def planned(**asked: object) -> list[dict[str, Any]]:
    """The configurations that are made of what was asked for."""

    class Dag:
        params = None

    class Run:
        conf = None

    plan = PlanTrainingsOperator(task_id="plan", **asked)
    return [json.loads(text) for text in plan.execute({"dag": Dag(), "dag_run": Run()})]


def test_a_plan_takes_json_text_as_well_as_objects() -> None:
    """As a DAG of somebody's own may have it from a Variable."""
    configs = planned(config='{"epochs": 3}', sweep='{"seed": [1, 2]}')
    assert [(config["epochs"], config["seed"]) for config in configs] == [(3, 1), (3, 2)]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"config": {"epochs": 0}}, "epochs: must be greater than or equal to 1; got 0"),
        ({"config": {"epoch": 3}}, "epoch: there is no such field"),
        ({"fields": {"optimizer": "rmsprop"}}, "optimizer"),
        ({"sweep": {"kernel_size": [[3, 3]]}}, "kernel_size"),
        ({"config": "epochs=3"}, "config: 'epochs=3' is no JSON object"),
        ({"sweep": [[3, 5]]}, "sweep: .* is no JSON object"),
    ],
)
def test_a_plan_refuses_what_is_wrong_by_its_field(asked, said) -> None:
    """At once: no retry can fix it."""
    with pytest.raises(AirflowFailException, match=said):
        planned(**asked)
