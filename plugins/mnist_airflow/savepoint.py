"""SQL of our listener in the scheduler's transaction, where an error must end nothing of Airflow's.

It imports the standard library only, since every part of Airflow imports it while starting.
"""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun
    from sqlalchemy.orm import Session

_log = logging.getLogger(__name__)


def in_savepoint(dag_run: "DagRun", work: "Callable[[Session, DagRun], None]") -> None:
    """Do some work for a run in a savepoint; if it fails, undo what it did, log why, and go on.

    Args:
        dag_run: attached to Airflow's session; nothing is done for one that is not.
        work: what to do with that session.
    """
    from sqlalchemy.orm import object_session

    session = object_session(dag_run)
    if session is None:
        return
    # So that the savepoint holds nothing of Airflow's. Not `session.begin_nested()`: the scheduler refuses
    # every commit of its session, also that of a savepoint.
    session.flush()
    try:
        with session.connection().begin_nested():
            work(session, dag_run)
    except Exception:  # noqa: BLE001 (whatever it is, Airflow goes on)
        _log.exception("%s failed for the run %s of %s", work.__name__, dag_run.run_id, dag_run.dag_id)
