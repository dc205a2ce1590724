"""The tools of the bundled world as JSON schemas, and what is wrong with the arguments of a call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agentrl.encyclopedia import RELATIONS

UNITS = ("celsius", "fahrenheit", "kilometres", "miles")
CURRENCIES = ("marks", "florins", "crowns")
LANGUAGES = ("Voric", "Talesh", "Osmic")
KINDS: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}


def function(
    name: str, description: str, parameters: Mapping[str, Any], optional: Sequence[str] = ()
) -> dict[str, Any]:
    """A tool in the form that chat templates take; all parameters are required but the optional ones."""
    schema = {
        "type": "object",
        "properties": dict(parameters),
        "required": [key for key in parameters if key not in optional],
    }
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


def _text(description: str, *values: str) -> dict[str, Any]:
    return {"type": "string", "description": description, **({"enum": list(values)} if values else {})}


_CITY = _text("Name of a city")
_SCHEMAS = (
    function(
        "search",
        "Search the encyclopedia for articles.",
        {
            "query": _text("What to look for"),
            "top": {"type": "integer", "description": "Articles wanted", "default": 3},
        },
        optional=("top",),
    ),
    function(
        "lookup",
        "Look up one fact about an entity of the encyclopedia.",
        {"entity": _text("Its name"), "relation": _text("Which fact", *RELATIONS)},
    ),
    function("calculate", "Evaluate an arithmetic expression.", {"expression": _text("For example (3 + 4) * 2")}),
    function("code", "Run a Python program without files or network.", {"source": _text("It prints its result")}),
    function("weather", "Current temperature (degrees Celsius) and sky in a city.", {"city": _CITY}),
    function("hotel", "The best hotel of a city and its price for a night.", {"city": _CITY}),
    function("time", "Local time of a city, in full hours.", {"city": _CITY}),
    function("distance", "Distance between two cities in kilometres.", {"origin": _CITY, "destination": _CITY}),
    function(
        "convert",
        "Convert a value from one unit to another.",
        {
            "value": {"type": "number", "description": "The value"},
            "source": _text("Its unit", *UNITS),
            "target": _text("The unit wanted", *UNITS),
        },
    ),
    function(
        "currency",
        "Convert an amount of money at today's rate.",
        {
            "amount": {"type": "number", "description": "The amount"},
            "source": _text("Its currency", *CURRENCIES),
            "target": _text("The currency wanted", *CURRENCIES),
        },
    ),
    function(
        "translate",
        "Translate a word or name.",
        {"text": _text("What to translate"), "language": _text("Into which language", *LANGUAGES)},
    ),
    function(
        "email",
        "Send an email to a person.",
        {"person": _text("Name of the person"), "body": _text("The text of the email")},
    ),
    function("calendar", "Show when a person is free tomorrow.", {"person": _text("Name of the person")}),
    function("news", "Headlines about a topic.", {"topic": _text("The topic")}),
    function("stock", "Price of a share of a company.", {"company": _text("Name of the company")}),
)
TOOLS: Mapping[str, Mapping[str, Any]] = {schema["function"]["name"]: schema for schema in _SCHEMAS}


def problem(parameters: Mapping[str, Any], arguments: Mapping[str, Any]) -> str | None:
    """What is wrong with these arguments under a JSON schema of an object, in a sentence; None when nothing is."""
    properties: Mapping[str, Any] = parameters.get("properties", {})
    for name in parameters.get("required", ()):
        if name not in arguments:
            return f"argument '{name}' is missing"
    for name, value in arguments.items():
        if name not in properties:
            return f"there is no argument '{str(name)[:60]}'; expected {', '.join(properties) or 'none'}"
        if wrong := _wrong(properties[name], value):
            return f"argument '{name}' {wrong}"
    return None


def _wrong(schema: Mapping[str, Any], value: Any) -> str | None:
    kind = schema.get("type")
    if isinstance(kind, str) and kind in KINDS:
        fits = isinstance(value, KINDS[kind]) and (kind == "boolean" or not isinstance(value, bool))
        if not fits:
            return f"is {type(value).__name__}, expected {kind}"
    if "enum" in schema and value not in schema["enum"]:
        return f"is {str(value)[:60]!r}, expected one of {', '.join(map(str, schema['enum']))}"
    if isinstance(value, list) and isinstance(schema.get("items"), Mapping):
        return next((f"holds an item that {wrong}" for item in value if (wrong := _wrong(schema["items"], item))), None)
    return None
