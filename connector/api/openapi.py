"""The API's description in OpenAPI 3.1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

import connector


def document(models: Mapping[str, type[BaseModel]]) -> dict[str, Any]:
    """The description; `models`: the answers by schema name."""
    _, definitions = models_json_schema(
        [(model, "serialization") for model in models.values()], ref_template="#/components/schemas/{model}"
    )
    refused = {
        "401": {"description": "The bearer token is missing or wrong."},
        "403": {"description": "There is no token, and the request names another host than an address or localhost."},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "voxtrunk", "version": connector.__version__},
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
        "paths": {
            "/healthz": {"get": {"summary": "The process is alive.", "security": [], "responses": {"200": _ok()}}},
            "/readyz": {
                "get": {
                    "summary": "Calls would be answered, or why not.",
                    "security": [],
                    "responses": {
                        "200": _answer("Ready.", "Readiness"),
                        "503": _answer("Not ready.", "Readiness"),
                    },
                }
            },
            "/metrics": {
                "get": {
                    "summary": "Metrics for Prometheus.",
                    "responses": {
                        "200": {"description": "Text format 0.0.4.", "content": {"text/plain": {}}},
                        **refused,
                    },
                }
            },
            "/v1/calls": {
                "get": {
                    "summary": "Calls in progress.",
                    "responses": {"200": _answer("The calls, oldest first.", "CallList"), **refused},
                }
            },
            "/v1/openapi.json": {"get": {"summary": "This description.", "responses": {"200": _ok(), **refused}}},
        },
    }


def _ok() -> dict[str, Any]:
    return {"description": "Yes.", "content": {"application/json": {"schema": {"type": "object"}}}}


def _answer(description: str, schema: str) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {"description": description, "content": content}
