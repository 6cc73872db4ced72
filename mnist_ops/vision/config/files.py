"""Training configurations in TOML or JSON files: one may extend another, and `--set` changes are on top.

A file has the fields of `TrainingConfig` and two more. `extend` names another file: its values apply where
this file sets none. `sweep` is a table of lists: every combination of their values is a trial.
"""

import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from mnist_ops.validation import Problem
from mnist_ops.vision.config.errors import (
    FIELDS,
    as_json,
    config_error,
    described,
    suffix,
    unknown_field,
    validated_config,
)
from mnist_ops.vision.config.schema import TrainingConfig
from mnist_ops.vision.config.sweep import MAX_TRIALS, trials

SHIPPED = Path(__file__).parents[2] / "configs"

_PARSERS: dict[str, Callable[[str], object]] = {".json": json.loads, ".toml": tomllib.loads}
_SWEEP = "sweep."
_NOT_OF_ITEMS = ("title", "description", "default")  # keys of a field's schema that its sweep values lack


@dataclass(frozen=True, slots=True)
class RawConfig:
    """A configuration as written, before its values are validated.

    Attributes:
        values: by field.
        sweep: the lists of values to try, by field; empty for a single training.
        origins: where each value was set, by `field` or `sweep.field`.
    """

    values: Mapping[str, object]
    sweep: Mapping[str, object]
    origins: Mapping[str, str]

    def changed(self, changes: Sequence[str]) -> "RawConfig":
        """Apply changes in order: `field=value`, or `sweep.field=[value, value]`.

        A value is read as JSON, or as text if it is not JSON. A field that gets a single value is removed
        from the sweep.

        Raises:
            ValidationError: a change has no `=`, or names an unknown field.
        """
        values, sweep, origins = dict(self.values), dict(self.sweep), dict(self.origins)
        problems = []
        for change in changes:
            name, separator, text = change.partition("=")
            field = name.removeprefix(_SWEEP)
            origins[name] = f"--set {change}"
            if not separator:
                problems.append(Problem("set", f"expected field=value; got {as_json(change)}"))
            elif field not in FIELDS:
                problems.append(Problem(name, unknown_field(field) + suffix(origins[name])))
            elif name == field:
                values[field] = _value(text)
                sweep.pop(field, None)
            else:
                sweep[field] = _value(text)
        if problems:
            raise config_error(*problems)
        return RawConfig(values, sweep, origins)

    def config(self) -> TrainingConfig:
        """Validate the configuration of a single training.

        Raises:
            ValidationError: a value is not allowed, or there is a sweep.
        """
        if self.sweep:
            origin = self.origins.get(f"{_SWEEP}{next(iter(self.sweep))}")
            message = "a single training is expected here, not a sweep" + suffix(origin)
            raise config_error(Problem("sweep", message))
        return validated_config(self.values, self.origins)

    def trials(self) -> tuple[TrainingConfig, ...]:
        """Validate the configurations of all trials; one without a sweep.

        Raises:
            ValidationError: see `sweep.trials`.
        """
        return trials(self.values, self.sweep, self.origins)


def shipped_configs() -> dict[str, Path]:
    """Return the files of the configurations that come with the package, by name."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.toml"))}


def read_config(path: Path | None) -> RawConfig:
    """Read a configuration file and the files that it extends.

    Args:
        path: a .toml or .json file, or the name of a shipped configuration; None for the defaults.

    Raises:
        ValidationError: a file is missing, is neither TOML nor JSON, or extends itself.
    """
    if path is None:
        return RawConfig({}, {}, {})
    return _read(_resolve(path, ()), ())


def config_of_text(text: str, origin: str) -> RawConfig:
    """Read a configuration from a JSON object, which an argument named `origin` holds.

    It has neither `extend` nor `sweep`.

    Raises:
        ValidationError: it is not a JSON object.
    """
    values = _parse(json.loads, text, origin)
    return RawConfig(values, {}, dict.fromkeys(values, origin))


def config_schema() -> dict[str, Any]:
    """Return the JSON schema of configuration files; docs/training-config.schema.json is a copy."""
    schema = TrainingConfig.model_json_schema()
    fields: dict[str, Any] = schema["properties"]
    for described_item in (schema, *fields.values(), *schema["$defs"].values()):
        described_item["description"] = " ".join(described_item["description"].split())
    sweep = {
        field: {
            "type": "array",
            "minItems": 1,
            "items": {key: value for key, value in of_field.items() if key not in _NOT_OF_ITEMS},
        }
        for field, of_field in fields.items()
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "properties": {
            "extend": {
                "type": "string",
                "title": "Extend",
                "description": "Another file, relative to this one's folder, or the name of a shipped "
                "configuration: its values apply where this file sets none.",
            },
            **fields,
            "sweep": {
                "type": "object",
                "title": "Sweep",
                "description": "Values to try, by field: every combination is a trial, "
                f"at most {MAX_TRIALS}.",
                "properties": sweep,
                "additionalProperties": False,
            },
        },
    }


class _File(BaseModel):
    """The two fields of a file that are not hyperparameters; the hyperparameters are its extra fields."""

    model_config = ConfigDict(extra="allow", strict=True)

    extend: str | None = None
    sweep: dict[str, Any] | None = None


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _resolve(path: Path, chain: tuple[Path, ...]) -> Path:
    """The file of a path or name; `chain` holds the files that led to it, each extending the next."""
    folder = chain[-1].parent if chain else Path()
    shipped = shipped_configs()
    file = shipped.get(str(path), folder / path)
    if file.suffix not in _PARSERS:
        raise _file_error(path, chain, f"expected a .toml or .json file, or one of {', '.join(shipped)}")
    if not file.is_file():
        raise _file_error(path, chain, "there is no such file")
    if file.resolve() in [other.resolve() for other in chain]:
        raise _file_error(path, chain, "a file cannot extend itself")
    return file


def _file_error(path: Path, chain: tuple[Path, ...], message: str) -> ValidationError:
    names = " extends ".join(map(str, (*chain, path)))
    return config_error(Problem("extend" if chain else "config", f"{names}: {message}"))


def _read(file: Path, chain: tuple[Path, ...]) -> RawConfig:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise config_error(Problem("config", f"{file}: cannot be read ({error})")) from error
    parsed = _parse(_PARSERS[file.suffix], text, str(file))
    try:
        content = _File.model_validate(parsed)
    except ValidationError as error:
        raise config_error(*described(error, dict.fromkeys(parsed, str(file)))) from error
    chain = (*chain, file)
    base = RawConfig({}, {}, {})
    if content.extend is not None:
        base = _read(_resolve(Path(content.extend), chain), chain)
    values = content.model_extra or {}
    names = [*values, *(f"{_SWEEP}{field}" for field in content.sweep or {})]
    return RawConfig(
        {**base.values, **values},
        base.sweep if content.sweep is None else content.sweep,
        {**base.origins, **dict.fromkeys(names, str(file))},
    )


def _parse(parse: Callable[[str], object], text: str, origin: str) -> dict[str, object]:
    """The values by field in a text.

    Raises:
        ValidationError: the text is not in the format, or not an object.
    """
    try:
        values = parse(text)
    except (ValueError, RecursionError) as error:
        kind = "TOML" if parse is tomllib.loads else "JSON"
        raise config_error(Problem("config", f"{origin}: not {kind} ({error})")) from error
    if not isinstance(values, dict):
        raise config_error(
            Problem("config", f"{origin}: expected an object of fields; got {as_json(values)}")
        )
    return values
