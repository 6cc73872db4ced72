#!/usr/bin/env bash
# Prepare what the other Airflow services need. Safe to run again: compose does so at every `up`.
set -euo pipefail

airflow db migrate
# Without this pool the scheduler never starts the training task; one slot serialises the GPU.
airflow pools set gpu 1 "Training: one task at a time"
# Fewer slots than the workers have: a live run always finds one (docs/many-workers.md).
airflow pools set backfill "${AIRFLOW_BACKFILL_SLOTS}" "Tasks of backfills"
mnist-ops init
