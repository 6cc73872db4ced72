"""The published JSON schema of training configurations."""

from typing import Any

from mnist_ops.vision.config.schema import TrainingConfig

_OF_THE_FIELD = ("title", "description", "default")  # not of the values in a sweep's list


def config_schema() -> dict[str, Any]:
    """What may stand in a configuration file, as a JSON schema."""
    schema = TrainingConfig.model_json_schema()
    fields: dict[str, Any] = schema["properties"]
    for described in (schema, *fields.values(), *schema["$defs"].values()):
        described["description"] = " ".join(described["description"].split())
    sweep = {
        field: {
            "type": "array",
            "minItems": 1,
            "items": {key: value for key, value in of_one.items() if key not in _OF_THE_FIELD},
        }
        for field, of_one in fields.items()
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "properties": {
            "extend": {
                "type": "string",
                "title": "Extend",
                "description": "Another file, from this one's folder, or the name of a shipped one: its "
                "values stand where this file says nothing.",
            },
            **fields,
            "sweep": {
                "type": "object",
                "title": "Sweep",
                "description": "Values to try, by field: every combination is a trial, at most 64.",
                "properties": sweep,
                "additionalProperties": False,
            },
        },
    }
