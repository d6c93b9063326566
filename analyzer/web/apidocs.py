"""The description of the API as a page: nothing is loaded from elsewhere."""

from __future__ import annotations

from typing import Any

__all__ = ["described"]


def described(document: dict[str, Any]) -> dict[str, Any]:
    """The values of the template ``api.html``, from an OpenAPI document."""
    schemas = document.get("components", {}).get("schemas", {})
    groups: dict[str, list[dict[str, Any]]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            group = (operation.get("tags") or ["other"])[0]
            groups.setdefault(group, []).append(_operation(path, method, operation, schemas))
    return {"groups": groups, "version": document["info"]["version"]}


def _operation(path: str, method: str, operation: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    summary, _, rest = (operation.get("description") or operation.get("summary", "")).partition("\n\n")
    content = (operation.get("requestBody") or {}).get("content", {})
    bodies = [
        {"type": kind, "fields": _fields(value.get("schema", {}), schemas)} for kind, value in content.items()
    ]
    answers: dict[str, Any] = next(
        (one for status, one in operation.get("responses", {}).items() if status.startswith("2")), {}
    )
    answer = answers.get("content", {}).get("application/json", {}).get("schema", {})
    return {
        "method": method.upper(),
        "path": path,
        "summary": summary,
        "rest": rest,
        "parameters": [
            {
                "name": one["name"],
                "in": one["in"],
                "type": _type(one.get("schema", {})),
                "text": one.get("description", ""),
            }
            for one in operation.get("parameters", [])
        ],
        "bodies": bodies,
        "answer": _fields(answer, schemas),
    }


def _fields(schema: dict[str, Any], schemas: dict[str, Any]) -> list[dict[str, Any]]:
    if schema.get("type") == "array":
        schema = schema.get("items", {})
    if "$ref" in schema:
        schema = schemas.get(schema["$ref"].rpartition("/")[2], {})
    required = schema.get("required", [])
    return [
        {
            "name": name,
            "type": _type(field),
            "text": field.get("description", ""),
            "required": name in required,
        }
        for name, field in schema.get("properties", {}).items()
    ]


def _type(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "anyOf" in schema:
        return " | ".join(_type(one) for one in schema["anyOf"])
    if schema.get("type") == "array":
        inner = _type(schema.get("items", {}))
        return f"list of {inner}" if inner else "list"
    return str(schema.get("format") or schema.get("type") or "")
