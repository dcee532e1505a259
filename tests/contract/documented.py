"""Compares an HTTP answer with `django_kpwa/sandbox/openapi.yaml`: operation, status, content type and shape.

This is stricter than the file itself, because a property that the file does not name is an error too.
"""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path

import jsonschema
import yaml

import django_kpwa

CONTRACT = Path(django_kpwa.__file__).parent / "sandbox" / "openapi.yaml"


def assert_documented(method: str, path: str, status: int, content_type: str, body: bytes) -> None:
    """Fail if the answer is not documented. `path` starts after the base URL, e.g. `/openapi/wa/status`."""
    responses = _operation(method, path)["responses"]
    assert str(status) in responses, f"{method} {path} answered {status}, which is not documented."
    contents = _resolved(responses[str(status)])["content"]
    kind = content_type.partition(";")[0]
    assert kind in contents, f"{method} {path} answered {status} as {content_type}, which is not documented."
    if kind == "application/json":
        schema = contents[kind]["schema"]
        jsonschema.Draft202012Validator(_as_json_schema(schema)).validate(json.loads(body))


def operations() -> list[tuple[str, str]]:
    return [(method.upper(), path) for path, item in _contract()["paths"].items() for method in item]


@functools.cache
def _contract() -> dict:
    return yaml.safe_load(CONTRACT.read_text())


def _operation(method: str, path: str) -> dict:
    for template, item in _contract()["paths"].items():
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path):
            return item[method.lower()]
    raise AssertionError(f"{path} is not in the contract.")


def _resolved(node: dict) -> dict:
    if "$ref" not in node:
        return node
    target = _contract()
    for name in node["$ref"].removeprefix("#/").split("/"):
        target = target[name]
    return _resolved(target)


def _as_json_schema(schema: dict) -> dict:
    """Convert OpenAPI 3.0's dialect to JSON Schema: `nullable` becomes a type, and references are resolved."""
    schema = dict(_resolved(schema))
    if schema.pop("nullable", False):
        return {"anyOf": [_as_json_schema(schema), {"type": "null"}]}
    if "properties" in schema:
        schema["properties"] = {name: _as_json_schema(each) for name, each in schema["properties"].items()}
        schema["additionalProperties"] = False
    if "items" in schema:
        schema["items"] = _as_json_schema(schema["items"])
    if "anyOf" in schema:
        schema["anyOf"] = [_as_json_schema(each) for each in schema["anyOf"]]
    return schema
