"""JSON Schema: what in a value breaks a schema."""

from typing import Any

from jsonschema import Draft202012Validator


def errors(value: Any, schema: dict[str, Any]) -> list[str]:
    """Return a line for each error; none if the value is valid. The schema is checked too."""
    Draft202012Validator.check_schema(schema)
    return [f"{each.json_path}: {each.message}" for each in Draft202012Validator(schema).iter_errors(value)]
