"""Airflow's cluster policies. Every part of Airflow imports this file when it starts.

`config/` comes before the plugins folder on the path: if it has an `airflow_local_settings.py`, import the
policy into that one (docs/many-workers.md). An error in this file would stop all of Airflow, so it holds one
import and nothing else.
"""

from mnist_airflow.backfills import yield_to_live_runs as task_instance_mutation_hook

__all__ = ["task_instance_mutation_hook"]
