"""Imported for its effect, by Celery's workers: all that tasks import is there afterwards."""

from mnist_airflow.preload import preload

preload()
