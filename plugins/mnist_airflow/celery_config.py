"""For `[celery] celery_config_options`: Airflow's Celery configuration, plus the modules to preload."""

from airflow.providers.celery.executors.default_celery import DEFAULT_CELERY_CONFIG

# Celery imports these in the worker's parent process, before it forks.
CONFIG = {**DEFAULT_CELERY_CONFIG, "imports": ("mnist_airflow.preloaded",)}
