"""Triggers: coroutines in Airflow's triggerer that wait for something to happen."""
