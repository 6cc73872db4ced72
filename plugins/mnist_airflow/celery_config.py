"""Celery's configuration for `[celery] celery_config_options`: Airflow's, with what workers import first."""

from airflow.providers.celery.executors.default_celery import DEFAULT_CELERY_CONFIG

# Celery imports these before it forks the processes that tasks are forked from.
CONFIG = {**DEFAULT_CELERY_CONFIG, "imports": ("mnist_airflow.preloaded",)}
