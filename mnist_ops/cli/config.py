"""Training configurations: what may stand in one, and what one comes to."""

import json

import typer

from mnist_ops.cli._support.options import Changes, ConfigName, raw_config

app = typer.Typer(help="Training configurations.", no_args_is_help=True)


@app.command()
def schema() -> None:
    """Print what may stand in a configuration file, as a JSON schema."""
    from mnist_ops.vision.config.files import config_schema

    typer.echo(json.dumps(config_schema(), indent=2))


@app.command()
def show(config: ConfigName = None, changes: Changes = None) -> None:
    """Print a configuration with everything that it extends and the defaults, as one JSON object."""
    written = raw_config(config, changes)
    first, *_ = written.trials()
    document: dict[str, object] = first.model_dump(mode="json", exclude=set(written.sweep))
    typer.echo(json.dumps(document | ({"sweep": written.sweep} if written.sweep else {}), indent=2))
