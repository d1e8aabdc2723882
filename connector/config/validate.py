"""Checks a part of the tree against its type, and says where and how it differs in an admin's words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from connector.config.references import is_reference
from connector.config.report import Place, Report, one_of, shown
from connector.config.tree import Listing, Node, Scalar, Table, is_absent, meaning, member, plain

Model = TypeVar("Model", bound=BaseModel)


def validate(model: type[Model], table: Table, report: Report, given: Mapping[str, Any] | None = None) -> Model | None:
    """A `model` from `table` and the finished values `given`; None where it is wrong.

    What is wrong goes to `report`. Unknown keys are reported and left out, so that the rest can be judged too.
    """
    _check_forms(model, table, report)
    try:
        return model.model_validate({**plain(table), **(given or {})})
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False)
        for details in errors:
            _describe(details, model, table, report)
        unknown = [str(one["loc"][0]) for one in errors if one["type"] == "extra_forbidden" and len(one["loc"]) == 1]
        return validate(model, table.without(*unknown), report, given) if unknown else None


def as_table(node: Node | None, place: Place, report: Report) -> Table:
    """`node` as a mapping, an empty one at `place` where it is absent; anything else is reported."""
    if isinstance(node, Table):
        return node
    if node is not None and not is_absent(node):
        report.problem(node.place, "is no mapping", "write its keys below it, indented")
    return Table(node.place if node else place, {})


def unknown_key(node: Node, key: str, known: Sequence[str], report: Report) -> None:
    """Reports that `key`, whose value is `node`, is none of `known`."""
    report.problem(node.place, f"unknown key {shown(key)}", one_of(key, known))


# --------------------------------------------------------------------------------------- what pydantic lets pass


def _check_forms(annotation: Any, node: Node, report: Report) -> None:
    """Reports secrets that stand in the file, and truths where a number is wanted (pydantic takes true for 1)."""
    match node:
        case Table():
            models = [kind for kind in _kinds(annotation) if _is_model(kind)]
            for key, value in node.entries.items():
                fields = [found for found in (_field(model, key) for model in models) if found is not None]
                for inner in fields or [annotation]:
                    _check_forms(inner, value, report)
        case Listing():
            for item in node.items:
                _check_forms(annotation, item, report)
        case Scalar():
            _check_form(_kinds(annotation), node, report)


def _check_form(kinds: list[Any], scalar: Scalar, report: Report) -> None:
    place = scalar.place
    if SecretStr in kinds and scalar.value and not is_reference(scalar.raw):
        name = _variable_name(place)
        report.problem(
            place,
            "a secret stands in the file",
            f"keep it elsewhere and write ${{{name}}} or ${{file:/run/secrets/{name.lower()}}}",
        )
    elif isinstance(scalar.value, bool) and (int in kinds or float in kinds) and bool not in kinds:
        report.problem(place, meaning(scalar), "should be a number")


def _variable_name(place: Place) -> str:
    """A name for the variable that could hold the secret at `place`: VOXTRUNK_ and the last part of its key."""
    return f"VOXTRUNK_{place.key.rpartition('.')[2].upper()}"


def _kinds(annotation: Any) -> list[Any]:
    """Every type that `annotation` is made of."""
    parts = get_args(annotation)[:1] if get_origin(annotation) is Annotated else get_args(annotation)
    return [annotation, *(kind for part in parts for kind in _kinds(part))]


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _field(model: type[BaseModel], key: str) -> Any:
    """Annotation of the field that YAML calls `key`, or None."""
    for name, info in model.model_fields.items():
        if key == (info.alias or name):
            return info.annotation
    return None


def keys_of(model: type[BaseModel]) -> list[str]:
    """The keys that `model` knows, as YAML has them."""
    return [info.alias or name for name, info in model.model_fields.items()]


# --------------------------------------------------------------------------------------- pydantic's errors


def _describe(details: ErrorDetails, model: type[BaseModel], table: Table, report: Report) -> None:
    """Reports one of pydantic's errors at the value that it is about."""
    node: Node = table
    models: list[Any] = [model]
    rest = list(details["loc"])
    while rest:
        inner = member(node, rest[0])
        if inner is None:
            break
        models = [kind for one in models for kind in _kinds(_field(one, str(rest[0]))) if _is_model(kind)] or models
        node = inner
        rest.pop(0)
    place = node.place.member(rest[0]) if details["type"] == "missing" and rest else node.place
    if details["type"] == "extra_forbidden":
        known = [name for one in models for name in keys_of(one)]
        unknown_key(node, str(details["loc"][-1]), known, report)
    else:
        report.problem(place, *_words(details, node))


def _words(details: ErrorDetails, node: Node) -> tuple[str, str]:
    """What is wrong, and what would be right."""
    kind, context = details["type"], details.get("ctx", {})
    written = _written(node)
    match kind:
        case "missing":
            return "is missing", "add it"
        case "string_type" if isinstance(node, Scalar) and node.value is None:
            return "has no value", 'write "" for an empty text'
        case "string_type" if isinstance(node, Scalar):
            return meaning(node), f'put it in quotes: "{node.raw}"'
        case "literal_error" | "enum":
            expected = [part.strip("' ") for part in str(context["expected"]).replace(" or ", ",").split(",")]
            return f"{written} is not a choice", one_of(
                node.raw if isinstance(node, Scalar) else "", expected, "one of"
            )
        case "value_error":
            subject = f"{written} " if isinstance(node, Scalar) else ""
            return f"{subject}{context['error']}", ""
        case "model_type" | "dict_type" | "model_attributes_type":
            return f"{written} is no mapping", "write its keys below it, indented"
        case "tuple_type" | "list_type" | "set_type" | "frozen_set_type":
            return f"{written} is no list", "write [one, another], or a line with - for each"
    if isinstance(node, Scalar) and node.value is None:
        return "has no value", _phrase(details["msg"])
    if kind.startswith(("int_", "float_", "finite_")) and not kind.endswith(("_type", "from_float")):
        return f"{written} is no number", f"should be a {'whole' if kind.startswith('int_') else 'finite'} number"
    if kind.startswith("bool_"):
        return f"{written} is neither true nor false", "write true or false"
    return f"{written} is not accepted", _phrase(details["msg"])


def _written(node: Node) -> str:
    match node:
        case Scalar():
            return shown(node.raw) or '""'
        case Listing():
            return "a list"
        case Table():
            return "a mapping"


def _phrase(message: str) -> str:
    """Pydantic's sentence without its subject: `Input should be greater than 0` as `should be greater than 0`."""
    return message.removeprefix("Value error, ").removeprefix("Input ").removeprefix("String ")
