"""Options that several commands share."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnist_ops.domain.errors import UsageError
from mnist_ops.domain.moments import moment_of_words
from mnist_ops.domain.selection import Selection, parse_reclassify
from mnist_ops.pipeline import Pipeline, pipeline_of_environment, utc_now

if TYPE_CHECKING:
    from mnist_ops.vision.config.files import RawConfig

Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line, for programs.")]
Since = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="Take records created at or after this: an ISO date or time (UTC, or with an offset), now, "
        "today, yesterday, '3 days ago', 3d or 12h.",
    ),
]
Until = Annotated[
    str | None, typer.Option(metavar="TIME", help="Take records created before this; written as --since.")
]
Publish = Annotated[bool, typer.Option(help="Write predictions into the records.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Take at most this number of records, oldest first.")]
Again = Annotated[
    str,
    typer.Option(
        metavar="never|failed[:REASON,…]|stale|changed|all",
        help="Which records are taken besides the waiting ones: permanent failures (of these reasons), or "
        "predicted records.",
    ),
]
GenerationNumber = Annotated[
    int | None, typer.Option("--generation", min=0, help="The run's generation; by default the newest.")
]
ConfigName = Annotated[
    str | None,
    typer.Option("--config", help="Hyperparameters: a .toml or .json file, or a shipped config's name."),
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        # The backslash is for Rich, which else takes the list for a style.
        help="Set a hyperparameter; or values to try: sweep.FIELD=\\[a,b].",
    ),
]


def pipeline() -> Pipeline:
    """The steps over the connections of the environment, else over those of the embedded stack."""
    return pipeline_of_environment(os.environ)


def raw_config(
    config: str | None, changes: Sequence[str] | None, config_json: str | None = None
) -> "RawConfig":
    """The training configuration of the options `--config` (or `--config-json`) and `--set`."""
    from mnist_ops.vision.config.files import config_of_text, read_config

    if config is not None and config_json is not None:
        raise UsageError("--config and --config-json cannot both be given; leave one out")
    if config_json is not None:
        return config_of_text(config_json, "--config-json").changed(changes or ())
    return read_config(Path(config) if config is not None else None).changed(changes or ())


def selection(since: str | None, until: str | None, again: str, limit: int | None) -> Selection:
    """The selection of a run by hand; without `until`, all records up to now.

    Raises:
        UsageError: a time or a policy cannot be read, or the window is empty.
    """
    moment = utc_now()
    reclassify, reasons = parse_reclassify(again, "--reclassify")
    first = None if since is None else moment_of_words(since, "--since", moment)
    end = moment if until is None else moment_of_words(until, "--until", moment)
    if first is not None and first >= end:
        limit_of_window = f"now, {end.isoformat()}" if until is None else f"--until: {end.isoformat()}"
        raise UsageError(
            f"--since: {first.isoformat()} is not before {limit_of_window}; give an earlier --since"
        )
    return Selection(
        at=moment,
        since=first,
        until=end,
        reclassify=reclassify,
        limit=limit,
        reasons=reasons,
    )
