"""Imports the tasks' modules once, in the process that tasks are forked from.

Airflow forks every task: from a worker of LocalExecutor, itself forked from the scheduler, or from one of
Celery. A module that is already imported there costs a task nothing; otherwise it is a second of CPU a task.
torch is left out, since only training needs it, and so is everything that starts threads.

Celery's workers import this module if `[celery] celery_config_options` is
`mnist_airflow.celery_config.CONFIG`. The scheduler imports it through the plugin's listener.
"""

import importlib
import logging
import sys

MODULES = (
    "airflow.providers.amazon.aws.hooks.base_aws",
    "airflow.providers.mongo.hooks.mongo",
    "mnist_airflow.connections",
    "mnist_airflow.operators",
    "mnist_airflow.windows",
    "mnist_ops.settings",
    "mnist_ops.steps.assess",
    "mnist_ops.steps.classify",
    "mnist_ops.steps.fetch",
    "mnist_ops.steps.publish",
    "mnist_ops.steps.reconcile",
    "mnist_ops.steps.snapshot",
    "mnist_ops.pipeline",
    "mnist_ops.variables",
    "mnist_ops.wiring",
)

_log = logging.getLogger(__name__)


def preload() -> None:
    """Import the tasks' modules. A failed import is left to the task, which reports it."""
    for name in MODULES:
        try:
            importlib.import_module(name)
        except ImportError as error:
            _log.warning("not imported before the tasks: %s: %s", name, error)


def preload_in_scheduler() -> None:
    """Preload if this process is a scheduler that forks its tasks itself."""
    from airflow.configuration import conf

    # The listener is not told which part of Airflow starts; the command line names it.
    if sys.argv[1:2] == ["scheduler"] and "LocalExecutor" in conf.get("core", "executor"):
        preload()
