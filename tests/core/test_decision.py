import dataclasses
import json
from typing import Any

import pytest

from lectr_extproc.catalog.providers import PROVIDERS
from lectr_extproc.core.decision import decide
from lectr_extproc.core.facts import Facts, with_body
from lectr_extproc.core.outcome import ASK_FOR_BODY, AskForBody, Choice, Refuse, Route, Serve, to_metadata
from lectr_extproc.core.record import LogEntry
from lectr_extproc.core.snapshot import Snapshot
from lectr_extproc.core.tables import Limits, Org
from tests.core.calls import EVERYWHERE, NOW, PARTS, TRANSCRIPTIONS, holding, in_parts, of_parts, refused, replaced_org
from tests.core.given import CLIENT_KEY, DISABLED_KEY, KEY, azure_site, recorded, request, routed, snapshot

# --- who may call -----------------------------------------------------------------------------------------------------


REFUSED_KEYS: dict[str, tuple[list[str], str]] = {
    "no key": ([], "missing_lectr_key"),
    "an empty key": ([""], "missing_lectr_key"),
    "an empty key twice": (["", " "], "missing_lectr_key"),
    "a key without its prefix": ([KEY.removeprefix("lc_key_")], "invalid_lectr_key"),
    "the prefix alone": (["lc_key_"], "invalid_lectr_key"),
    "a key that is too short": (["lc_key_123456789012345"], "invalid_lectr_key"),
    "a key that is too long": (["lc_key_" + "a" * 129], "invalid_lectr_key"),
    "a key with a letter beyond ASCII": (["lc_key_0123456789abcdefghié"], "invalid_lectr_key"),
    "a key with bytes that are no text": (["lc_key_0123456789abcdefghi\udcff"], "invalid_lectr_key"),
    "a key with a line end": (["lc_key_0123456789abcdefghij\n0"], "invalid_lectr_key"),
    "a well-formed key that nobody has": (["lc_key_jihgfedcba9876543210"], "invalid_lectr_key"),
    "its digest instead of the key": ([next(iter(snapshot().orgs_by_key))], "invalid_lectr_key"),
    "a key in upper case": ([KEY.upper()], "invalid_lectr_key"),
    "two that differ, the first valid": ([KEY, DISABLED_KEY], "invalid_lectr_key"),
    "two that Envoy joined": ([f"{DISABLED_KEY}, {KEY}"], "invalid_lectr_key"),
    "a key and an empty one": ([KEY, ""], "invalid_lectr_key"),
    "a disabled org's key": ([DISABLED_KEY], "org_disabled"),
}


@pytest.mark.parametrize(("keys", "code"), REFUSED_KEYS.values(), ids=REFUSED_KEYS)
def test_a_caller_without_a_valid_key_is_refused(keys: list[str], code: str) -> None:
    decision = refused(request("gpt-4o", *(("x-lectr-key", key) for key in keys), key=None))
    assert (decision.refusal.code, decision.refusal.status) == (code, 401)
    assert (decision.org is not None) == (code == "org_disabled"), "the record names the org that was turned away"
    assert not any(
        key in json.loads(decision.refusal.body("openai"))["error"]["message"] for key in keys if key.strip()
    )


WEB = "spiffe://cluster.local/ns/shop/sa/web"


def meshed(*, enabled: bool = True) -> Snapshot:
    """Web is acme's, as the key is; what else is of its namespace is the shop's."""
    (acme, *_) = snapshot().orgs_by_key.values()
    shop = Org(name="shop", enabled=enabled)
    orgs = {WEB: acme, "spiffe://cluster.local/ns/shop/*": shop}
    return dataclasses.replace(snapshot(), orgs_by_workload=orgs, identity="xfcc")


def test_a_workload_needs_no_key_and_may_have_its_own_orgs() -> None:
    def caller(workload: str | None, key: str | None) -> str:
        return routed(dataclasses.replace(request("gpt-4o", key=key), workload=workload), meshed()).org.name

    assert caller(WEB, None) == caller(WEB, KEY) == caller(None, KEY) == "acme"
    assert caller("spiffe://cluster.local/ns/shop/sa/other", None) == "shop"
    assert caller("spiffe://cluster.local/ns/unknown", KEY) == "acme", (
        "where all have certificates keys tell orgs apart"
    )


REFUSED_WORKLOADS: dict[str, tuple[str | None, str | None, str]] = {
    "a workload of no org": ("spiffe://cluster.local/ns/unknown", None, "unknown_workload"),
    "no workload": (None, None, "missing_lectr_key"),
    "another org's key": ("spiffe://cluster.local/ns/shop/sa/other", KEY, "identity_mismatch"),
    "a key that nobody has": (WEB, "lc_key_jihgfedcba9876543210", "invalid_lectr_key"),
    "a disabled org's workload": ("spiffe://cluster.local/ns/shop/sa/other", None, "org_disabled"),
}


@pytest.mark.parametrize(("workload", "key", "code"), REFUSED_WORKLOADS.values(), ids=REFUSED_WORKLOADS)
def test_a_workload_is_refused(workload: str | None, key: str | None, code: str) -> None:
    facts = dataclasses.replace(request("gpt-4o", key=key), workload=workload)
    refusal = refused(facts, meshed(enabled=code != "org_disabled")).refusal
    assert (refusal.code, refusal.status) == (code, 401)


@pytest.mark.parametrize("again", [KEY, f" {KEY} ", f"{KEY},{KEY}"])
def test_a_key_that_is_sent_twice_is_still_one_key(again: str) -> None:
    assert routed(request("gpt-4o", ("x-lectr-key", again))).org.name == "acme"


PLACES = {"authorization": "Bearer {}", "x-api-key": "{}", "api-key": "{}", "x-goog-api-key": "{}"}


@pytest.mark.parametrize(("name", "value"), PLACES.items(), ids=PLACES)
def test_a_client_with_one_key_says_with_it_who_calls(name: str, value: str) -> None:
    def calling(key: str) -> Facts:
        return request("gpt-4o", (name, value.format(key)), key=None, bearer=None)

    assert routed(calling(KEY)).org.name == "acme"
    assert KEY not in str(routed(calling(KEY)).sets)
    assert refused(calling(DISABLED_KEY)).refusal.code == "org_disabled"
    for stranger in ("lc_key_jihgfedcba9876543210", "lc_key_123", "lc_key_" + "a" * 129):
        assert refused(calling(stranger)).refusal.code == "invalid_lectr_key"


def test_a_call_that_says_two_names_is_nobodys() -> None:
    stray = ("x-api-key", DISABLED_KEY)
    assert refused(request("gpt-4o", stray)).refusal.code == "invalid_lectr_key"
    assert refused(request("gpt-4o", stray, key=None, bearer=KEY)).refusal.code == "invalid_lectr_key"
    assert routed(request("gpt-4o", ("x-api-key", KEY), bearer=KEY)).org.name == "acme"


def test_beside_a_key_of_ours_the_clients_key_for_the_provider_still_goes() -> None:
    route = routed(request("gpt-4o", ("x-api-key", CLIENT_KEY), key=None, bearer=KEY))
    assert route.sets == {"authorization": f"Bearer {CLIENT_KEY}"}


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
def test_a_refusal_has_the_shape_of_the_api_that_was_called(path: str) -> None:
    assert refused(request(path=path, key=None)).shape == "anthropic"
    assert refused(request(key=None)).shape == "openai"


def test_the_key_is_asked_for_before_anything_else() -> None:
    huge = request(None, ("content-length", "999999999"), key=None, content_type="text/plain")
    assert refused(huge).refusal.code == "missing_lectr_key"


# --- the models there are ---------------------------------------------------------------------------------------------


ANTHROPICS = ("anthropic-version", "2023-06-01")


def models_of(*headers: tuple[str, str], path: str = "/v1/models", **more: Any) -> Facts:
    facts = request(None, *headers, path=path, method="GET", has_body=False, content_type="", **more)
    return dataclasses.replace(facts, at_s=NOW)


def served(facts: Facts, tables: Snapshot | None = None) -> Any:
    decision = decide(facts, tables or snapshot())
    assert isinstance(decision, Serve), decision
    return json.loads(decision.body)


def test_every_model_that_is_listed_goes_to_its_owner_when_it_is_asked() -> None:
    registered = {"gpt-4o": "mine", "Own/Model": "mine", "our-gpt": "azure", "llama3.1:8b": "mine"}
    more = [dataclasses.replace(PROVIDERS["custom"], id="mine")]
    addresses = dict.fromkeys([*PROVIDERS, "mine"], "http://h/v1")
    for tables in (
        snapshot(),
        EVERYWHERE,
        snapshot(azure_site(), more=more, addresses=addresses, registered=registered),
    ):
        listed = [entry for entry in served(models_of(), tables)["data"] if entry["owned_by"] != "lectr"]
        choices = [routed_choice(request(entry["id"]), tables) for entry in listed]
        assert [(choice.provider, choice.unknown) for choice in choices] == [(e["owned_by"], False) for e in listed]
        assert len(listed) > 10


def routed_choice(facts: Facts, tables: Snapshot) -> Choice:
    decision = decide(facts, tables)
    if isinstance(decision, AskForBody):
        decision = decide(with_body(facts, b"{}"), tables)
    assert isinstance(decision, Route)
    return decision.choice


def test_an_org_is_offered_what_it_reaches_and_no_more() -> None:
    own = {"our-gpt": "azure"}
    without, having = (snapshot(site, registered=own) for site in (None, azure_site()))
    names = [[entry["id"] for entry in served(models_of(), tables)["data"]] for tables in (without, having)]
    assert set(names[1]) - set(names[0]) == {"our-gpt"}
    reached = {entry["owned_by"] for entry in served(models_of(), without)["data"]}
    assert reached <= without.sites.keys() | {"lectr"}


def test_the_sdk_that_asks_is_answered_in_its_shape() -> None:
    assert served(models_of())["object"] == "list"
    page = served(models_of(ANTHROPICS, path="/v1/models?limit=1"))
    assert (len(page["data"]), page["data"][0]["type"], page["has_more"]) == (1, "model", True)
    assert served(models_of(ANTHROPICS, path="/v1/models/gpt-4o"))["display_name"] == "gpt-4o"


def test_the_list_is_the_same_with_a_slash_behind_it_and_for_who_only_wants_its_head() -> None:
    head = dataclasses.replace(models_of(), method="HEAD")
    assert served(models_of()) == served(models_of(path="/v1/models/")) == served(head)


@pytest.mark.parametrize("path", ["/v1/models/mine/a:b", "/v1/models/mine%2Fa%3Ab"])
def test_a_model_is_found_by_its_name_with_slashes_and_escapes(path: str) -> None:
    assert served(models_of(path=path), snapshot(registered={"mine/a:b": "openai"}))["id"] == "mine/a:b"


@pytest.mark.parametrize(("headers", "shape"), [((), "openai"), ((ANTHROPICS,), "anthropic")])
def test_a_model_that_is_not_offered_is_not_found(headers: tuple[tuple[str, str], ...], shape: str) -> None:
    decision = refused(models_of(*headers, path="/v1/models/mystery"))
    assert (decision.refusal.code, decision.refusal.status, decision.shape) == ("model_not_found", 404, shape)
    assert decision.org is not None


def test_who_may_not_call_is_told_no_models() -> None:
    assert refused(models_of(key=None)).refusal.code == "missing_lectr_key"
    assert refused(models_of(key=DISABLED_KEY)).refusal.code == "org_disabled"


AT_GROQ = ("x-lectr-provider", "groq")

PASSED_ON: dict[str, tuple[Facts, str]] = {
    "a provider's own list": (models_of(AT_GROQ), "/openai/v1/models"),
    "a provider's own model": (models_of(AT_GROQ, path="/v1/models/x"), "/openai/v1/models/x"),
    "a deletion": (request(path="/v1/models/ft:gpt-4o:x", method="DELETE", has_body=False), "/v1/models/ft:gpt-4o:x"),
    "another prefix": (models_of(path="/openai/models"), "/openai/models"),
}


@pytest.mark.parametrize(("facts", "path"), PASSED_ON.values(), ids=PASSED_ON)
def test_every_other_question_for_models_is_a_providers(facts: Facts, path: str) -> None:
    assert routed(facts).path == path


def test_a_provider_that_is_none_is_noted_and_changes_nothing() -> None:
    decisions = [decide(models_of(*headers), snapshot()) for headers in ((), (("x-lectr-provider", "nobody"),))]
    assert all(isinstance(decision, Serve) for decision in decisions)
    records = [
        recorded(LogEntry(start_ns=1, status=200, response_bytes=9, decision=to_metadata(d, models_of(), "c1")))
        for d in decisions
        if isinstance(d, Serve)
    ]
    for record in records:
        assert (record.org, record.provider, record.dialect, record.outcome) == ("acme", None, "models", "ok")
        assert (record.cost, record.usage, record.token_source) == (None, None, "none")
    assert [record.notes for record in records] == [
        ("answered_by_gateway",),
        ("answered_by_gateway", "provider_header_invalid"),
    ]


# --- the body ---------------------------------------------------------------------------------------------------------


def sized(size: int, model: str | None = None, content_type: str = "application/json", **more: object) -> Facts:
    facts = request(model, ("content-length", str(size)), content_type=content_type)
    return dataclasses.replace(facts, **more)  # type: ignore[arg-type]


FORM = "application/x-www-form-urlencoded"

ASKED: dict[str, tuple[Facts, bool]] = {
    "a model from the metadata": (sized(9, "gpt-4o"), False),
    "JSON that Envoy made nothing of": (sized(9), True),
    "JSON without a model": (request(None, ("content-length", "9"), metadata={"stream": False}), False),
    "JSON that Envoy made nothing of, of unknown length": (request(), False),
    "JSON that Envoy made nothing of, larger than is read": (sized(1025), False),
    "JSON of another name": (sized(9, None, "application/vnd.api+json; charset=utf-8"), True),
    "JSON whose path has the model": (
        request(None, ("content-length", "9"), path="/v1beta/models/gemini-2.5-pro:generateContent"),
        False,
    ),
    "a picture": (sized(9, None, "image/png"), False),
    "curl's form without a model": (sized(9, None, FORM), True),
    "plain text without a model": (sized(9, None, "text/plain; charset=utf-8"), True),
    "no content type": (sized(9, None, ""), True),
    "a form that names a model": (sized(9, "gpt-4o", FORM), False),
    "a form as large as is read": (sized(1024, None, FORM), True),
    "a form larger than that": (sized(1025, None, FORM), False),
    "a form of unknown length": (request(content_type=FORM), False),
    "an empty form": (sized(0, None, FORM), False),
    "a form in parts where it names no model": (sized(9, None, PARTS), False),
    "a recording": (in_parts(9), True),
    "pictures": (in_parts(9, path="/v1/images/edits"), True),
    "a film": (in_parts(9, path="/v1/videos"), True),
    "a recording at Azure": (in_parts(9, path="/openai/v1/audio/translations"), True),
    "a recording as large as is read": (in_parts(2048), True),
    "a recording larger than that": (in_parts(2049), False),
    "a recording of unknown length": (request(path=TRANSCRIPTIONS, content_type=PARTS), False),
    "a recording without a boundary": (in_parts(9, content_type="multipart/form-data"), False),
    "a recording whose deployment is in the path": (
        in_parts(9, path="/openai/deployments/w/audio/transcriptions"),
        False,
    ),
    "a recording that was seen": (with_body(in_parts(9), b"x"), False),
    "a form whose path has the model": (
        sized(9, None, FORM, path="/v1beta/models/gemini-2.5-pro:generateContent"),
        False,
    ),
    "a form without a body": (sized(9, None, FORM, has_body=False), False),
    "a form on an upgrade": (sized(9, None, FORM, is_upgrade=True), False),
    "a form that was seen": (with_body(sized(9, None, FORM), b"x"), False),
    "a prefix to take off": (sized(9, "openai/gpt-4o"), True),
    "a prefix on an upgrade": (sized(9, "openai/gpt-4o", is_upgrade=True), False),
    "a prefix without a body": (sized(9, "openai/gpt-4o", has_body=False), False),
    "a prefix that the path takes, too": (sized(9, "azure/gpt4"), True),
    "a GET": (request(path="/v1/models", method="GET", has_body=False, content_type=""), False),
}


@pytest.mark.parametrize(("facts", "is_asked"), ASKED.values(), ids=ASKED)
def test_a_body_is_asked_for_exactly_when_it_is_needed(facts: Facts, is_asked: bool) -> None:
    tables = snapshot(azure_site(), limits=Limits(inspect_body_bytes=1024, inspect_multipart_bytes=2048))
    assert (decide(facts, tables) is ASK_FOR_BODY) is is_asked


def test_the_model_of_a_form_decides_and_its_prefix_is_taken_off_in_its_field() -> None:
    form = {"prompt": "model", "file": "\x00", "model": "groq/whisper-large-v3", "stream": "true"}
    facts = with_body(in_parts(9), of_parts(**form))
    route = routed(facts)
    assert (route.choice.provider, route.choice.model_sent, route.path) == (
        "groq",
        "whisper-large-v3",
        "/openai/v1/audio/transcriptions",
    )
    assert (facts.streaming, route.asks_for_usage) == (True, False)
    assert route.body == of_parts(**form | {"model": "whisper-large-v3"})


def test_a_form_that_needs_no_change_stays_as_it_is() -> None:
    route = routed(with_body(in_parts(9), of_parts(model="whisper-1", stream="false")))
    assert (route.choice.provider, route.choice.dialect, route.body) == ("openai", "openai.audio", None)


def test_a_form_without_a_model_goes_where_its_key_says() -> None:
    route = routed(with_body(in_parts(9), of_parts(prompt="groq/whisper-large-v3")))
    assert (route.choice.provider, route.choice.model_sent, route.choice.unknown) == ("openai", None, True)


def test_azure_takes_the_deployment_out_of_a_form() -> None:
    named = ("x-lectr-provider", "azure")
    facts = with_body(in_parts(9, TRANSCRIPTIONS, PARTS, named), of_parts(model="azure/our-whisper"))
    dated, newer = (routed(facts, snapshot(azure_site(version))) for version in ("2024-02-01", "v1"))
    assert dated.path == "/openai/deployments/our-whisper/audio/transcriptions?api-version=2024-02-01"
    assert newer.path == "/openai/v1/audio/transcriptions"
    assert dated.body == newer.body == of_parts(model="our-whisper")


PREFIXED = {
    "Ollama's chat": ("/api/chat", "ollama", "llama3.1:8b"),
    "Ollama's completion": ("/api/generate", "ollama", "llama3.2"),
    "Ollama's description": ("/api/show", "ollama", "org/llama3.2"),
    "Cohere's chat": ("/v2/chat", "cohere", "command-a-03-2025"),
    "Cohere's embeddings": ("/v2/embed", "cohere", "embed-english-v3.0"),
    "Cohere's older chat": ("/v1/chat", "cohere", "ours"),
    "Azure's newer API": ("/openai/v1/chat/completions", "azure", "gpt4"),
    "Azure's newer responses": ("/openai/v1/responses", "azure", "gpt4"),
    "Azure's dated API": ("/v1/chat/completions", "azure", "gpt4"),
    "Azure's dated responses": ("/v1/responses", "azure", "gpt4"),
}


@pytest.mark.parametrize(("path", "provider", "name"), PREFIXED.values(), ids=PREFIXED)
def test_a_provider_gets_its_model_without_its_own_prefix_on_its_own_paths_too(
    path: str, provider: str, name: str
) -> None:
    facts = request(f"{provider}/{name}", path=path)
    assert decide(facts, EVERYWHERE) is ASK_FOR_BODY
    route = routed(with_body(facts, b'{ "model": "%b/%b" }' % (provider.encode(), name.encode())), EVERYWHERE)
    assert (route.choice.provider, route.choice.model_sent) == (provider, name)
    assert route.body == b'{ "model": "%b" }' % name.encode()


def test_a_model_that_the_path_names_is_the_paths_own() -> None:
    facts = request(path="/model/bedrock%2Fmine/converse")
    for tables, named in ((EVERYWHERE, ()), (EVERYWHERE, (("x-lectr-provider", "bedrock"),))):
        route = routed(request(None, *named, path=facts.path), tables)
        assert (route.choice.model_sent, route.path) == ("bedrock/mine", facts.path)


def test_only_a_body_that_changes_is_sent_again() -> None:
    body = b'{"model": "openai/gpt-4o", "seed": 18446744073709551617, "messages": []}'
    facts = request("openai/gpt-4o")
    assert routed(with_body(facts, body)).body == body.replace(b"openai/", b"")
    assert routed(with_body(sized(9, None, FORM), b'{"model": "gpt-4o"}')).body is None


def test_a_model_that_only_the_body_told_decides() -> None:
    for seen in (sized(9, None, FORM), sized(9), sized(9, None, "application/merge-patch+json")):
        route = routed(with_body(seen, b'{"model": "claude-opus-4-6", "stream": true}'))
        assert (route.choice.provider, route.choice.source) == ("anthropic", "prefix")


def test_a_body_that_is_no_json_goes_on_as_it_is() -> None:
    route = routed(with_body(sized(9, None, FORM), b"model=gpt-4o"))
    assert (route.choice.provider, route.choice.unknown, route.body) == ("openai", True, None)


@pytest.mark.parametrize(("size", "code"), [(2048, None), (2049, "request_too_large")])
def test_a_body_beyond_the_limit_is_refused_before_it_is_sent(size: int, code: str | None) -> None:
    decision = decide(sized(size, "gpt-4o"), snapshot(limits=Limits(max_body_bytes=2048)))
    assert (decision.refusal.code if isinstance(decision, Refuse) else None) == code


# --- choosing a model -------------------------------------------------------------------------------------------------


def test_the_words_an_org_can_use_are_listed() -> None:
    def words_of(tables: Snapshot, **more: Any) -> set[str]:
        return {entry["id"] for entry in served(models_of(**more), tables)["data"] if entry["owned_by"] == "lectr"}

    tiers = {"auto", "economy", "standard", "premium"}
    none = dataclasses.replace(snapshot(), sites={})
    assert words_of(none, bearer=None) == set()
    assert words_of(snapshot(), bearer=CLIENT_KEY) == tiers | {"embed-small", "embed-large"}
    assert words_of(holding(groq="k"), bearer=None) == set(), "all of its models have been retired"
    aliases = {"a": ("premium",), "b": ("auto",), "c": ("claude-x", "gemini-x"), "d": ("gpt-4o",)}
    blocking = replaced_org(holding(openai="k", gemini="k"), aliases=aliases, blocked=frozenset({"openai"}))
    assert words_of(blocking, bearer=None) == tiers | {"a", "b", "c"}
    registered = holding(openai="k")
    models = dataclasses.replace(registered.models, registered={"economy": "custom"})
    assert "economy" not in words_of(dataclasses.replace(registered, models=models), bearer=None)


def test_what_an_org_may_not_use_is_not_listed_and_there_is_no_such_model() -> None:
    bounded = replaced_org(snapshot(), blocked=frozenset({"gpt-4o", "anthropic"}))
    before, after = ({entry["id"] for entry in served(models_of(), of)["data"]} for of in (snapshot(), bounded))
    assert {"gpt-4o", "claude-opus-4-6", "gpt-4.1"} <= before
    assert after & {"gpt-4o", "claude-opus-4-6", "gpt-4.1"} == {"gpt-4.1"}
    for headers in ((), (ANTHROPICS,)):
        asked = models_of(*headers, path="/v1/models/claude-opus-4-6")
        assert refused(asked, bounded).refusal.code == "model_not_found"
