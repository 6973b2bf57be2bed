import json

import pytest

from lectr_extproc.core.refusal import REFUSALS, Refusal

STATUSES = {
    "missing_lectr_key": 401,
    "invalid_lectr_key": 401,
    "unknown_workload": 401,
    "identity_mismatch": 401,
    "org_disabled": 401,
    "azure_config_missing": 400,
    "model_not_allowed": 403,
    "model_not_found": 404,
    "limits_unavailable": 503,
    "request_too_large": 413,
    "gateway_unavailable": 503,
    "provider_unreachable": 503,
    "provider_timeout": 504,
}


def test_these_are_all_the_answers_we_give_ourselves() -> None:
    assert {code: refusal.status for code, refusal in REFUSALS.items()} == STATUSES


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_openais_sdk_finds_code_type_and_message_where_it_looks(refusal: Refusal) -> None:
    assert json.loads(refusal.body("openai")) == {
        "error": {"message": refusal.message, "type": refusal.type, "param": None, "code": refusal.code}
    }


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_anthropics_sdk_finds_type_and_message_where_it_looks(refusal: Refusal) -> None:
    body = json.loads(refusal.body("anthropic"))
    assert (body["type"], body["error"]["type"], body["error"]["code"]) == ("error", refusal.type, refusal.code)
    assert body["error"]["message"] == f"{refusal.code}: {refusal.message}"


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_says_what_to_do_and_nothing_about_how_we_work(refusal: Refusal) -> None:
    assert refusal.message.endswith(".")
    assert not any(word in refusal.message.lower() for word in ("envoy", "ext_proc", "cluster", "python", "upstream"))


def test_nobody_can_add_a_refusal_at_run_time() -> None:
    with pytest.raises(TypeError):
        REFUSALS["new"] = REFUSALS["org_disabled"]  # type: ignore[index]
