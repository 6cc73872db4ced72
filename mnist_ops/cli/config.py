"""Training configurations: `mnist-ops config schema|show`."""

import json

import typer

from mnist_ops.cli._support.command_groups import command_group
from mnist_ops.cli._support.options import Changes, ConfigName, raw_config

app = command_group("Training configurations.")


@app.command()
def schema() -> None:
    """Print the JSON schema of configuration files."""
    from mnist_ops.vision.config.files import config_schema

    typer.echo(json.dumps(config_schema(), indent=2))


@app.command()
def show(config: ConfigName = None, changes: Changes = None) -> None:
    """Print a configuration, merged with those that it extends and the defaults, as one JSON object."""
    raw = raw_config(config, changes)
    first, *_ = raw.trials()
    document: dict[str, object] = first.model_dump(mode="json", exclude=set(raw.sweep))
    typer.echo(json.dumps(document | ({"sweep": raw.sweep} if raw.sweep else {}), indent=2))
