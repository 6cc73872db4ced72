"""Records that arrive wake a DAG: MongoDB's change stream, the triggerer, an event, a run."""

from datetime import UTC, datetime

DAG_ID = "on_arrival"  # tests/e2e/dags


def test_an_inserted_record_wakes_a_run(deployment) -> None:
    """Its trigger watches since the stack is up; nobody starts the run."""
    airflow, records = deployment.airflow, deployment.collection.database["arrivals"]
    records.insert_one({"created_at": datetime.now(UTC), "image_url": "http://images/1.png"})
    run = airflow.run(DAG_ID, deployment.first_run(DAG_ID))
    assert run["run_type"] == "asset_triggered"
