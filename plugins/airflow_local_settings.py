"""Airflow's cluster policies: imported by every part of Airflow as it starts, because it is on its path.

The plugins folder comes after `config/` there: who has an `airflow_local_settings.py` already imports the
policy into that one (docs/many-workers.md). A fault in here would stop all of Airflow, so this file only
names what to call.
"""

from mnist_airflow.backfills import yield_to_live_runs as task_instance_mutation_hook

__all__ = ["task_instance_mutation_hook"]
