"""For scripts/check-endpoint: where the contract departs from its schema, which cannot say these rules.

The bodies are sent all the same, and only the contract's own answer is excused. tests/oracle.rs asserts
each departure for itself."""

import json
import os

import jsonschema_rs
import schemathesis
from schemathesis.core.failures import AcceptedNegativeData
from schemathesis.openapi.checks import RejectedPositiveData


def optional_fields(schema, path=()):
    for name, field in schema.get("properties", {}).items():
        if name not in schema["required"]:
            yield (*path, name)
        yield from optional_fields(field, (*path, name))


def without_nulls(value, path=()):
    if not isinstance(value, dict):
        return value
    return {
        name: without_nulls(field, (*path, name))
        for name, field in value.items()
        if field is not None or (*path, name) not in OPTIONAL
    }


def is_null_for_absent(failure, body, response):
    """An optional field may be null, the same as absent."""
    accepted = isinstance(failure, AcceptedNegativeData) and response.status_code == 200
    rest = without_nulls(body)
    return accepted and rest != body and EVENT.is_valid(rest)


def is_disagreement(failure, body, response):
    """The two spellings of the total must agree."""
    if not isinstance(failure, RejectedPositiveData) or not EVENT.is_valid(body):
        return False
    names = response.status_code == 400 and response.json()["pointer"] == "/attempts_total"
    return names and TOTALS <= body.keys() and len({body[total] for total in TOTALS}) == 2


@schemathesis.hook
def filter_failure(context, failure, case, response):
    departures = [is_null_for_absent, is_disagreement]
    return not any(departs(failure, case.body, response) for departs in departures)


with open(os.environ["EVENT_SCHEMA"], encoding="utf-8") as file:
    SCHEMA = json.load(file)
TOTALS = {"attempt_total", "attempts_total"}
OPTIONAL = set(optional_fields(SCHEMA))
EVENT = jsonschema_rs.Draft202012Validator(SCHEMA, validate_formats=True)
