"""Keeps the requests of schemathesis such that most get past the first check, and none waits."""

# mypy: ignore-errors

import schemathesis


def whole(value):
    """1.0 is an integer to JSON Schema, and none to most who read JSON."""
    if isinstance(value, dict):
        return {key: whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return list(map(whole, value))
    return int(value) if isinstance(value, float) and value.is_integer() else value


@schemathesis.hook
def before_call(context, case, kwargs):
    """Nobody waits, and one daemon's name is mostly right."""
    case.body = whole(case.body)
    if case.query.get("follow") in (1, "1"):
        case.query["follow"] = 0
    if isinstance(case.body, dict) and isinstance(case.body.get("wait_s"), (int, float)):
        case.body["wait_s"] = min(case.body["wait_s"], 0.05)
    if "name" in case.path_parameters and len(str(case.path_parameters["name"])) % 4:
        case.path_parameters["name"] = "api"
