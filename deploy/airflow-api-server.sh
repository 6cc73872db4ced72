#!/usr/bin/env bash
# Give the simple auth manager its one account, then serve the UI and the API.
set -euo pipefail

umask 077
python - <<'PY'
import json
import os
import pathlib

passwords = pathlib.Path(os.environ["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"])
passwords.write_text(json.dumps({"admin": os.environ["AIRFLOW_ADMIN_PASSWORD"]}), encoding="utf-8")
PY
unset AIRFLOW_ADMIN_PASSWORD
umask 022

exec airflow api-server
