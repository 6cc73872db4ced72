"""What is set, and where: `mnist-ops settings`."""

import os
from collections.abc import Iterable

import typer

from mnist_ops.cli._support.effective_settings import (
    CONNECTIONS,
    DEFAULT,
    SOURCES,
    connection_facts,
    effective_settings,
    ignored_by_stack,
)
from mnist_ops.cli._support.options import Json
from mnist_ops.cli._support.tables import print_facts, print_json
from mnist_ops.settings import settings_of
from mnist_ops.variables import unknown_variables


def settings(as_json: Json = False) -> None:
    """Show every setting and connection as it is now, and where it comes from; secrets are masked."""
    values, warnings = effective_settings(os.environ), ignored_by_stack(os.environ)
    local_dir = settings_of(os.environ).local_dir
    connections = {name: connection_facts(name, os.environ, local_dir) for name in CONNECTIONS}
    if as_json:
        listed = {each.variable: {"value": each.value, "source": each.source} for each in values}
        warnings = [*unknown_variables(os.environ).values(), *warnings]
        print_json({"settings": listed, "connections": connections, "warnings": warnings})
        return
    for source in SOURCES:
        facts = [(each.variable, each.value or "none") for each in values if each.source == source]
        _print_section(f"from the {source}" if source != DEFAULT else "defaults", facts)
    for name, known in connections.items():
        _print_section(f"connection {name}", known.items())
    for warning in warnings:
        typer.echo(f"warning: {warning}", err=True)


def _print_section(title: str, facts: Iterable[tuple[str, str]]) -> None:
    lines = list(facts)
    if lines:
        typer.echo(f"{title}:")
        print_facts(lines, indent=2)
