"""As much of JSON Schema as our schemas use, so that tests need no library for it."""

from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "null": (type(None),),
}
_KNOWN = {
    "title", "type", "enum", "minimum", "required", "properties", "additionalProperties", "items", "anyOf"
}  # fmt: skip


def errors(value: Any, schema: dict[str, Any], where: str = "$") -> list[str]:
    """Return what in a JSON value breaks a schema, each with its place; none if it is valid."""
    assert set(schema) <= _KNOWN, f"unknown keywords {set(schema) - _KNOWN}"
    if "anyOf" in schema:
        tried = [errors(value, each, where) for each in schema["anyOf"]]
        return [] if [] in tried else [f"{where}: fits none of {len(tried)} forms: {tried}"]
    if "type" in schema and not _is_a(value, schema["type"]):
        return [f"{where}: {value!r} is no {schema['type']}"]
    found = []
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{where}: {value!r} is none of {schema['enum']}")
    if "minimum" in schema and value < schema["minimum"]:
        found.append(f"{where}: {value} is less than {schema['minimum']}")
    if isinstance(value, dict):
        found += _errors_of_object(value, schema, where)
    for index, entry in enumerate(value if isinstance(value, list) else ()):
        found += errors(entry, schema.get("items", {}), f"{where}[{index}]")
    return found


def _errors_of_object(value: dict[str, Any], schema: dict[str, Any], where: str) -> list[str]:
    known = schema.get("properties", {})
    found = [f"{where}: lacks {name}" for name in schema.get("required", ()) if name not in value]
    if not schema.get("additionalProperties", True):
        found += [f"{where}: has {name}" for name in value if name not in known]
    for name in known.keys() & value.keys():
        found += errors(value[name], known[name], f"{where}.{name}")
    return found


def _is_a(value: Any, types: str | list[str]) -> bool:
    named = [types] if isinstance(types, str) else types
    if isinstance(value, bool):
        return "boolean" in named
    return any(isinstance(value, _TYPES[name]) for name in named)
