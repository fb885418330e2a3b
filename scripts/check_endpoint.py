"""A running quickstart does what docs/openapi.json says, for requests that schemathesis generates:
"$(scripts/tool pytest)" -p no:cacheprovider scripts/check_endpoint.py"""

import json
import subprocess

import jsonschema_rs
import pytest
from schemathesis import openapi
from schemathesis.checks import CHECKS
from schemathesis.config import SchemathesisConfig

from servers import ROOT, SECRET, TARGET, Program

SCHEMA = json.loads((ROOT / "docs/event.schema.json").read_text())
EVENT = jsonschema_rs.Draft202012Validator(SCHEMA, validate_formats=True)
TOTALS = {"attempt_total", "attempts_total"}
RESPONSES = ["not_a_server_error", "status_code_conformance", "content_type_conformance"]
RESPONSES += ["response_headers_conformance", "response_schema_conformance"]
EXPECTED = {"positive_data_acceptance": 200, "negative_data_rejection": 400}
CONFIG = {
    "checks": {check: {"expected-statuses": [status]} for check, status in EXPECTED.items()},
    "generation": {"max-examples": 300, "with-security-parameters": False, "database": "none"},
    "seed": 1,
}
api = openapi.from_path(ROOT / "docs/openapi.json", config=SchemathesisConfig.from_dict(CONFIG))
refused = set()


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    # The example as `cargo test` builds it.
    subprocess.run(["cargo", "test", "--locked", "--quiet", "--no-run"], cwd=ROOT, check=True)
    settings = {"WEBHOOK_SECRET": SECRET, "BIND_ADDR": "127.0.0.1:0", "RUST_LOG": "off"}
    folder = tmp_path_factory.mktemp("app")
    with Program(TARGET / "debug/examples/quickstart", cwd=folder, env=settings) as app:
        yield f"http://127.0.0.1:{app.port}"
        app.terminate()
        app.communicate(timeout=10)
    assert app.returncode == 0


@api.parametrize()
def test_unauthenticated_requests(case, url):
    for headers in [{}, {"X-LOX24-Token": "wrong"}]:
        response = case.call(base_url=url, headers=headers)
        assert response.status_code == 401
        case.validate_response(response, checks=CHECKS.get_by_names(RESPONSES))


@api.parametrize()
def test_authenticated_requests(case, url):
    response = case.call(base_url=url, headers={"X-LOX24-Token": SECRET})
    checks = [*RESPONSES, "unsupported_method", "allow_header_conformance"]
    event = without_nulls(case.body, SCHEMA)
    is_valid = isinstance(event, dict) and EVENT.is_valid(event)
    # Rules that the schema does not state: the totals must agree, and null is the same as absent.
    if is_valid and len({event[name] for name in TOTALS & event.keys()}) == 2:
        assert response.status_code == 400
    elif is_valid and event != case.body:
        assert response.status_code == 200
    else:
        checks += EXPECTED
    case.validate_response(response, checks=CHECKS.get_by_names(checks))
    if response.status_code == 400:
        refused.add(response.json().get("pointer"))


def test_each_field_was_refused():
    assert set(pointers(SCHEMA)) <= refused


def without_nulls(value, schema):
    if not isinstance(value, dict):
        return value
    fields = schema.get("properties", {})
    optional = fields.keys() - schema.get("required", [])
    kept = {name: field for name, field in value.items() if field is not None or name not in optional}
    return {name: without_nulls(field, fields.get(name, {})) for name, field in kept.items()}


def pointers(schema, above=""):
    for name, field in schema.get("properties", {}).items():
        yield from [f"{above}/{name}", *pointers(field, f"{above}/{name}")]
