"""docs/settings.md, made from the docstrings and defaults of the code.

Write it again with: `.venv/bin/python -m tests.support.settings_page`
"""

import dataclasses
import inspect
import re
from pathlib import Path

from mnist_ops.local.ports import Ports
from mnist_ops.local.ports import variable as port_variable
from mnist_ops.settings import Settings, variable_of
from mnist_ops.variables import text_of

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"

# The first setting of each section, in the order of `Settings`.
SECTIONS = {
    "s3_bucket": "Records, objects and models",
    "allowed_hosts": "Fetching",
    "classify_schedule": "Runs",
    "minimum_accuracy": "Promoting",
    "training_instance_id": "Training",
    "price_currency": "Prices",
    "retention_days": "Garbage",
    "serve_token": "Pages and REST API without Airflow",
    "data_dir": "Folders",
}

_INTRODUCTION = """\
# Settings

<!-- Made from the code: .venv/bin/python -m tests.support.settings_page -->

Everything is set with environment variables. An empty variable counts as not set. `mnist-ops settings` shows
every value, where it comes from, and the connections, without their secrets; `--json` is for programs.

- A wrong value is an error that names the variable: exit code 2, and a task fails at once.
- A misspelt variable has no effect. The command line and the log of a snapshot name it and the nearest real
  one. From the `.env` of Docker Compose it does not reach them: `make env` names it.
- `make up` starts the embedded stack with the variables of its shell, and the command line uses those of the
  running stack; a variable that is set where a command runs takes precedence. `make up` on a running stack
  refuses other values: `make down`, then `make up`, applies them.
- Operators take database, collection, bucket, prefix, model name and connections as arguments, too.
"""

_PORTS = """
## Ports of the embedded stack

All listen on 127.0.0.1.
"""

_CONNECTIONS = """
## Connections

Servers and their secrets are Airflow connections: `mongo_default` and `aws_default`. In Airflow they may be
anywhere that Airflow reads connections from. The command line reads `AIRFLOW_CONN_MONGO_DEFAULT` and
`AIRFLOW_CONN_AWS_DEFAULT`, JSON or a URI, as Airflow does. Where neither is set, it uses those of the running
embedded stack.

```console
$ export AIRFLOW_CONN_MONGO_DEFAULT='mongo://user:password@mongo.internal:27017/admin'
$ export AIRFLOW_CONN_AWS_DEFAULT='{"conn_type": "aws", "login": "key", "password": "secret",
    "extra": {"region_name": "us-east-1", "endpoint_url": "https://s3.internal"}}'
```
"""


def page() -> str:
    """The text of docs/settings.md."""
    lines = [_INTRODUCTION.rstrip()]
    descriptions = attributes_of(Settings)
    for name, field in Settings.model_fields.items():
        if name in SECTIONS:
            lines += ["", f"## {SECTIONS[name]}", "", *_HEAD]
        lines.append(_row(variable_of(name), text_of(field.default), descriptions[name]))
    lines += [_PORTS, *_HEAD]
    descriptions = attributes_of(Ports)
    lines += [
        _row(port_variable(field.name), text_of(field.default), descriptions[field.name])
        for field in dataclasses.fields(Ports)
    ]
    return "\n".join([*lines, _CONNECTIONS])


def attributes_of(described: type) -> dict[str, str]:
    """The descriptions in the section `Attributes:` of a class's docstring, each on one line."""
    section = (inspect.getdoc(described) or "").partition("Attributes:\n")[2].partition("\n\n")[0]
    found = re.findall(r"^    (\w+): (.+(?:\n {8}.+)*)", section, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


_HEAD = ("| variable | default | what |", "|---|---|---|")


def _row(variable: str, default: str, description: str) -> str:
    shown = f"`{default}`" if default else "none"
    what = description.rstrip(".").replace("|", "\\|").replace("None ", "none ")
    return f"| `{variable}` | {shown} | {what} |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
