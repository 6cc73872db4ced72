"""Training configurations in files: TOML or JSON, one extending another, with changes on top.

A file has the fields of `TrainingConfig` and two more: `extend` names another file, whose values stand
where this one says nothing, and `sweep` a table of lists, of which every combination is a trial.
"""

import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mnist_ops.vision.config.errors import (
    FIELDS,
    Problem,
    config_of,
    from_where,
    not_allowed,
    refusal,
    unknown,
)
from mnist_ops.vision.config.schema import TrainingConfig
from mnist_ops.vision.config.sweep import trials

SHIPPED = Path(__file__).parents[2] / "configs"

_PARSERS: dict[str, Callable[[str], object]] = {".json": json.loads, ".toml": tomllib.loads}
_SWEEP = "sweep."


@dataclass(frozen=True, slots=True)
class Written:
    """A configuration as people wrote it, before anybody looked whether its values are allowed.

    Attributes:
        values: by field.
        sweep: the values to try, by field; empty for one training.
        origins: where each was written, by `field` or `sweep.field`.
    """

    values: Mapping[str, object]
    sweep: Mapping[str, Any]
    origins: Mapping[str, str]

    def changed(self, changes: Sequence[str]) -> "Written":
        """With `field=value` on top: of the values, or of the sweep with `sweep.field=[value, value]`.

        A value is read as JSON where it is JSON, else as text. A field that gets one value leaves the
        sweep.

        Raises:
            ValidationError: with a sentence for each change that is none, or is of an unknown field.
        """
        values, sweep, origins = dict(self.values), dict(self.sweep), dict(self.origins)
        problems = []
        for change in changes:
            name, separator, text = change.partition("=")
            field = name.removeprefix(_SWEEP)
            if not separator:
                problems.append(Problem("set", not_allowed(change, "field=value")))
            elif field not in FIELDS:
                problems.append(Problem(name, unknown(field) + from_where(f"--set {change}")))
            elif name == field:
                values[field] = _value(text)
                sweep.pop(field, None)
            else:
                sweep[field] = _value(text)
            origins[name] = f"--set {change}"
        if problems:
            raise refusal(problems)
        return Written(values, sweep, origins)

    def config(self) -> TrainingConfig:
        """The one training that is meant.

        Raises:
            ValidationError: a value is not allowed, or a sweep is meant.
        """
        if self.sweep:
            where = from_where(self.origins.get(f"{_SWEEP}{next(iter(self.sweep))}"))
            raise refusal([Problem("sweep", f"one training is wanted here, not a sweep{where}")])
        return config_of(self.values, self.origins)

    def trials(self) -> tuple[TrainingConfig, ...]:
        """The trainings that are meant: one without a sweep.

        Raises:
            ValidationError: see `sweep.trials`.
        """
        return trials(self.values, self.sweep, self.origins)


def load_config(path: Path | None, changes: Sequence[str] = ()) -> TrainingConfig:
    """The configuration of one training, from a file with changes on top.

    Args:
        path: a file that ends in .toml or .json, or the name of a shipped one; None for the defaults.
        changes: see `Written.changed`.

    Raises:
        ValidationError: with a sentence a problem: the file cannot be read, a value is not allowed, or
            the file has a sweep.
    """
    return read_config(path).changed(changes).config()


def shipped_configs() -> dict[str, Path]:
    """The configurations that come with the project, by name."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.toml"))}


def read_config(path: Path | None) -> Written:
    """Read a configuration file and those that it extends.

    Args:
        path: as of `load_config`.

    Raises:
        ValidationError: one of them is missing, is neither TOML nor JSON, or extends itself.
    """
    if path is None:
        return Written({}, {}, {})
    return _read(_found(path, ()), ())


def config_of_text(text: str, origin: str) -> Written:
    """A configuration as a JSON object in an argument; it has neither `extend` nor `sweep`.

    Args:
        text: the JSON.
        origin: what the argument is called.

    Raises:
        ValidationError: it is no JSON object.
    """
    values = _parsed(json.loads, text, origin)
    return Written(values, {}, dict.fromkeys(values, origin))


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _found(path: Path, chain: tuple[Path, ...]) -> Path:
    """The file that a name means, for the files that led to it."""
    here = chain[-1].parent if chain else Path()
    shipped = shipped_configs()
    file = shipped.get(str(path), here / path)
    if file.suffix not in _PARSERS:
        raise _no_file(path, chain, f"expected a .toml or .json file, or one of {', '.join(shipped)}")
    if not file.is_file():
        raise _no_file(path, chain, "there is no such file")
    if file.resolve() in [former.resolve() for former in chain]:
        raise _no_file(path, chain, "a file cannot extend itself")
    return file


def _no_file(path: Path, chain: tuple[Path, ...], why: str) -> ValidationError:
    names = " extends ".join(map(str, (*chain, path)))
    return refusal([Problem("extend" if chain else "config", f"{names}: {why}")])


def _read(file: Path, chain: tuple[Path, ...]) -> Written:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise refusal([Problem("config", f"{file}: cannot be read ({error})")]) from error
    values = _parsed(_PARSERS[file.suffix], text, str(file))
    below = _below(values.pop("extend", None), (*chain, file))
    sweep = values.pop("sweep", None)
    if not isinstance(sweep, dict | None):
        raise refusal([Problem("sweep", not_allowed(sweep, "a table of lists") + from_where(str(file)))])
    names = [*values, *(f"{_SWEEP}{field}" for field in sweep or {})]
    return Written(
        {**below.values, **values},
        below.sweep if sweep is None else sweep,
        {**below.origins, **dict.fromkeys(names, str(file))},
    )


def _below(extended: object, chain: tuple[Path, ...]) -> Written:
    """What a file extends, if it extends any."""
    if extended is None:
        return read_config(None)
    if not isinstance(extended, str):
        problem = not_allowed(extended, "the name of a file") + from_where(str(chain[-1]))
        raise refusal([Problem("extend", problem)])
    return _read(_found(Path(extended), chain), chain)


def _parsed(parse: Callable[[str], object], text: str, origin: str) -> dict[str, object]:
    """The values by field in a text.

    Raises:
        ValidationError: it is none of that format, or no object.
    """
    try:
        values = parse(text)
    except (ValueError, RecursionError) as error:
        kind = "TOML" if parse is tomllib.loads else "JSON"
        raise refusal([Problem("config", f"{origin}: not {kind} ({error})")]) from error
    if not isinstance(values, dict):
        raise refusal([Problem("config", f"{origin}: {not_allowed(values, 'an object of fields')}")])
    return values
