"""What the tasks of the pipeline import, imported once by the process that they are forked from.

Airflow forks every task: from a worker of LocalExecutor, itself forked from the scheduler, or from one of
Celery's. What is imported there already costs a task nothing, and would else be a second of CPU each time.
No torch, which only training needs, and nothing that starts threads.

Celery's workers import this module where `[celery] celery_config_options` is
`mnist_airflow.celery_config.CONFIG`; the scheduler is told by the plugin's listener.
"""

import importlib
import logging
import sys

MODULES = (
    "airflow.providers.amazon.aws.hooks.base_aws",
    "airflow.providers.mongo.hooks.mongo",
    "mnist_airflow.connections",
    "mnist_airflow.operators",
    "mnist_ops.settings",
    "mnist_ops.steps.assess",
    "mnist_ops.steps.classify",
    "mnist_ops.steps.fetch",
    "mnist_ops.steps.publish",
    "mnist_ops.steps.reconcile",
    "mnist_ops.steps.snapshot",
    "mnist_ops.pipeline",
    "mnist_ops.wiring",
)

_log = logging.getLogger(__name__)


def preload() -> None:
    """Import what tasks import; what cannot be imported is left to the task, which says why."""
    for name in MODULES:
        try:
            importlib.import_module(name)
        except ImportError as error:
            _log.warning("not imported before the tasks: %s: %s", name, error)


def preload_in_scheduler() -> None:
    """Preload where this process is a scheduler whose tasks are its children."""
    from airflow.configuration import conf

    # Airflow tells a listener that something starts, but not what: its command does.
    if sys.argv[1:2] == ["scheduler"] and "LocalExecutor" in conf.get("core", "executor"):
        preload()
