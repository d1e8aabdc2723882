"""The API's description in OpenAPI 3.1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

import connector
from connector.api.calls import RecordQuery

NO_CALL = "No call has this Call-ID."


def document(models: Mapping[str, type[BaseModel]]) -> dict[str, Any]:
    """The description; `models`: the answers by schema name."""
    _, definitions = models_json_schema(
        [(model, "serialization") for model in models.values()], ref_template="#/components/schemas/{model}"
    )
    unauthorized = {"401": {"description": "The bearer token is missing or wrong."}}
    refused = {
        **unauthorized,
        "403": {"description": "There is no token, and the request names another host than an address or localhost."},
    }
    call_id = {
        "name": "call_id",
        "in": "path",
        "required": True,
        "schema": {"type": "string"},
        "description": "SIP Call-ID, percent-encoded.",
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
            "/v1/calls/{call_id}": {
                "parameters": [call_id],
                "get": {
                    "summary": "A call: as far as it has come, or its record once it is over.",
                    "responses": {
                        "200": _answer("The call.", "RunningCall", "CallRecord"),
                        **refused,
                        "404": {"description": NO_CALL},
                    },
                },
                "delete": {
                    "summary": "Hangs up.",
                    "responses": {
                        "202": {"description": "It is being hung up.", **_content({"type": "object"})},
                        **unauthorized,
                        "403": {"description": f"{refused['403']['description']} Or a page of another origin asks."},
                        "404": {"description": NO_CALL},
                        "409": {"description": "The call is over."},
                    },
                },
            },
            "/v1/calls/{call_id}/recording/pause": {
                "parameters": [call_id],
                "post": _recording("Pauses the recording: nothing of what is said or keyed is kept.", refused),
            },
            "/v1/calls/{call_id}/recording/resume": {
                "parameters": [call_id],
                "post": _recording("Resumes the recording.", refused),
            },
            "/v1/records": {
                "get": {
                    "summary": "Records of calls that are over, the newest first.",
                    "parameters": [
                        {"name": name, "in": "query", "schema": schema, "description": schema.pop("description", "")}
                        for name, schema in RecordQuery.model_json_schema()["properties"].items()
                    ],
                    "responses": {
                        "200": _answer("The records, and the files that cannot be read.", "RecordList"),
                        "400": {"description": "A parameter is wrong."},
                        **refused,
                    },
                }
            },
            "/v1/openapi.json": {"get": {"summary": "This description.", "responses": {"200": _ok(), **refused}}},
        },
    }


def _recording(summary: str, refused: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "summary": f"{summary} Where that is so already nothing changes.",
        "responses": {
            "200": _answer("That is so now.", "RecordingState"),
            **refused,
            "404": {"description": NO_CALL},
            "409": {"description": "The call is over, or not answered yet."},
        },
    }


def _ok() -> dict[str, Any]:
    return {"description": "Yes.", **_content({"type": "object"})}


def _answer(description: str, *schemas: str) -> dict[str, Any]:
    references: list[dict[str, Any]] = [{"$ref": f"#/components/schemas/{schema}"} for schema in schemas]
    return {"description": description, **_content(references[0] if len(schemas) == 1 else {"oneOf": references})}


def _content(schema: dict[str, Any]) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": schema}}}
