"""A person's word before a promotion: asked in Airflow, answered through its API, kept in the registry."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.api_fastapi.core_api.datamodels.hitl import UpdateHITLDetailPayload
from airflow.api_fastapi.core_api.routes.public.hitl import update_hitl_detail
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.models.hitl import HITLDetail
from airflow.models.serialized_dag import SerializedDagModel
from airflow.models.taskinstance import TaskInstance
from airflow.sdk import DAG
from airflow.serialization.definitions.dag import SerializedDAG
from airflow.serialization.serialized_objects import LazyDeserializedDAG
from airflow.utils.session import create_session
from sqlalchemy import select

from mnist_airflow.operators import ApprovePromotionOperator, PromoteModelOperator
from mnist_ops.domain.records import BundleRef
from mnist_ops.steps.promote import GateResult

WHY = "better than the champion: accuracy 0.9930, McNemar's exact p = 0.0012; ECE 0.0021 within 0.02"


def gate_result(name: str, *, promote: bool = True) -> dict[str, object]:
    """What a release returned: a candidate that was compared with no champion."""
    bundle = BundleRef(name, 1, f"s3://mnist-ops/models/{name}/000001-00", f"sha256:{'0' * 64}")
    return GateResult(bundle, promote=promote, promoted=False, why=WHY).document()


def approval_dag(dag_id: str, released: Mapping[str, object], *, required: bool) -> DAG:
    """The end of train_lenet: approve, then promote."""
    with DAG(dag_id, schedule=None, start_date=datetime(2020, 1, 1, tzinfo=UTC)) as dag:
        approval = ApprovePromotionOperator(task_id="approve", gate_result=released, required=required)
        PromoteModelOperator(task_id="promote", gate_result=released, approval=approval.output)
    DagBundlesManager().sync_bundles_to_db()
    with create_session() as session:
        lazy = LazyDeserializedDAG.from_dag(dag)
        SerializedDAG.bulk_write_to_db("dags-folder", None, [lazy], session=session)
        SerializedDagModel.write_dag(lazy, bundle_name="dags-folder", session=session)
    return dag


@contextmanager
def answered(dag_id: str, option: str, comment: str = "") -> Iterator[dict[str, Any]]:
    """Answer, as vera, what the DAG asks; what was asked is there afterwards."""
    asked: dict[str, Any] = {}

    def answer() -> None:
        deadline = time.monotonic() + 60
        while not asked and time.monotonic() < deadline:
            time.sleep(0.3)
            with create_session() as session:
                waiting = select(TaskInstance).filter_by(dag_id=dag_id, state="awaiting_input")
                if (instance := session.scalar(waiting)) is None:
                    continue
                detail = session.scalar(select(HITLDetail).filter_by(ti_id=instance.id))
                asked.update(subject=detail.subject, body=detail.body, defaults=detail.defaults)
                update_hitl_detail(
                    dag_id,
                    instance.run_id,
                    "approve",
                    UpdateHITLDetailPayload(chosen_options=[option], params_input={"comment": comment}),
                    user=SimpleAuthManagerUser(username="vera", role="admin"),
                    session=session,
                )

    person = threading.Thread(target=answer)
    person.start()
    try:
        yield asked
    finally:
        person.join()


def champion(deployment, name: str) -> Mapping[str, Any] | None:
    """The champion's document in the registry."""
    return deployment.database["mnist_ops_models"].find_one({"_id": f"{name}/champion"})


@pytest.fixture(scope="module")
def approved(airflow, run_any) -> tuple[Any, dict[str, Any]]:
    """A promotion that vera approved, and what she was asked."""
    assert airflow
    dag = approval_dag("approved", gate_result("approved"), required=True)
    with answered("approved", "Approve", "looked at the worst digits") as asked:
        run = run_any(dag, {})
    return run, asked


def test_the_question_shows_the_numbers_of_the_gate(approved) -> None:
    """And the model's name and version."""
    _, asked = approved
    assert asked["subject"] == f"Promote approved 1? {WHY}"
    assert "sha256:0000" in asked["body"]


def test_an_approved_model_is_promoted(deployment, approved) -> None:
    """The run is green."""
    run, _ = approved
    assert run.tasks == {"approve": "success", "promote": "success"}
    assert run.xcoms["promote", "return_value"]["promoted"] is True
    assert champion(deployment, "approved")["version"] == 1


def test_the_registry_keeps_who_approved_it_and_why(deployment, approved) -> None:
    """The person's name as Airflow knows it, and what they wrote."""
    assert approved
    [change] = champion(deployment, "approved")["history"]
    assert (change["who"], change["why"]) == ("vera", f"{WHY}; looked at the worst digits")


def test_a_rejected_model_stays_a_candidate(deployment, run_any) -> None:
    """Nobody is alarmed: an answer is an answer."""
    dag = approval_dag("rejected", gate_result("rejected"), required=True)
    with answered("rejected", "Reject"):
        run = run_any(dag, {})
    assert run.tasks == {"approve": "success", "promote": "skipped"}
    assert run.state == "success"
    assert champion(deployment, "rejected") is None


def test_where_nobody_wants_to_be_asked_nobody_is(deployment, run_any) -> None:
    """The registry names the run."""
    run = run_any(approval_dag("unasked", gate_result("unasked"), required=False), {})
    assert run.tasks == {"approve": "success", "promote": "success"}
    assert champion(deployment, "unasked")["history"][0]["who"].startswith("unasked/")


def test_a_setting_asks_whatever_the_form_says(run_any, monkeypatch) -> None:
    """For deployments where no run may promote by itself."""
    monkeypatch.setenv("MNIST_OPS_REQUIRE_APPROVAL", "true")
    dag = approval_dag("asked_by_setting", gate_result("asked_by_setting"), required=False)
    with answered("asked_by_setting", "Reject") as asked:
        run = run_any(dag, {})
    assert asked
    assert run.tasks["promote"] == "skipped"


def test_what_the_gate_refused_is_put_to_nobody(deployment, run_any) -> None:
    """It is skipped with the numbers."""
    refused = gate_result("refused_by_gate", promote=False)
    run = run_any(approval_dag("refused_by_gate", refused, required=True), {})
    assert run.tasks == {"approve": "skipped", "promote": "skipped"}
    assert f"refused_by_gate 1 stays a candidate: {WHY}" in run.log
    assert champion(deployment, "refused_by_gate") is None
