import pytest

from lectr_extproc.core.credential import Credential, Form, present, take


def took(headers: list[tuple[str, str]], query_key: str | None) -> tuple[Credential | None, tuple[str, ...]]:
    lists: dict[str, list[str]] = {}
    for name, value in headers:
        lists.setdefault(name, []).extend(value.split(","))
    return take(lists, query_key)


INGRESS: dict[str, tuple[list[tuple[str, str]], str | None, Credential | None]] = {
    "Bearer": ([("authorization", "Bearer k")], None, Credential(Form.BEARER, "k")),
    "bearer in another case, with more blanks": (
        [("authorization", "bEARER   k ")],
        None,
        Credential(Form.BEARER, "k"),
    ),
    "x-api-key": ([("x-api-key", "k")], None, Credential(Form.X_API_KEY, "k")),
    "api-key": ([("api-key", "k")], None, Credential(Form.API_KEY, "k")),
    "x-goog-api-key": ([("x-goog-api-key", " k ")], None, Credential(Form.X_GOOG_API_KEY, "k")),
    "the query": ([], "k", Credential(Form.QUERY, "k")),
    "Bearer before every other": (
        [("x-goog-api-key", "4"), ("api-key", "3"), ("x-api-key", "2"), ("authorization", "Bearer 1")],
        "5",
        Credential(Form.BEARER, "1"),
    ),
    "a header before the query": ([("x-goog-api-key", "4")], "5", Credential(Form.X_GOOG_API_KEY, "4")),
    "the first of two": ([("x-api-key", "1"), ("x-api-key", "2")], None, Credential(Form.X_API_KEY, "1")),
    "a scheme we do not know": ([("authorization", "Basic dTpw")], None, None),
    "a scheme we do not know, and a key": (
        [("authorization", "AWS4-HMAC-SHA256 x"), ("api-key", "k")],
        None,
        Credential(Form.API_KEY, "k"),
    ),
    "Bearer without a key": ([("authorization", "Bearer ")], None, None),
    "an empty header": ([("x-api-key", "")], None, None),
    "an empty query": ([], "", None),
    "a query that only blanks fill": ([], "  ", None),
    "a query that no header could hold": ([], "k\r\nx-evil: 1", None),
    "a query beyond ASCII": ([], "clé", None),
    "nothing": ([("content-type", "application/json")], None, None),
    "an org key as Bearer": ([("authorization", "Bearer lc_key_x")], None, None),
    "an org key as x-api-key, the provider's behind it": (
        [("x-api-key", "lc_key_x"), ("api-key", "k")],
        None,
        Credential(Form.API_KEY, "k"),
    ),
    "an org key in the query": ([], " lc_key_x", None),
    "an org key with its scheme in the wrong header": ([("x-api-key", "Bearer lc_key_x")], None, None),
}


@pytest.mark.parametrize(("headers", "query", "expected"), INGRESS.values(), ids=INGRESS)
def test_the_clients_key_is_found_wherever_it_may_be(
    headers: list[tuple[str, str]], query: str | None, expected: Credential | None
) -> None:
    assert took(headers, query)[0] == expected


def test_a_key_is_not_shown() -> None:
    assert "secret" not in repr(Credential(Form.BEARER, "secret"))


EGRESS = {
    "Bearer": ("k", Form.BEARER, ("authorization", "Bearer k")),
    "Anthropic's header": ("k", Form.X_API_KEY, ("x-api-key", "k")),
    "Azure's header": ("k", Form.API_KEY, ("api-key", "k")),
    "Google's header": ("k", Form.X_GOOG_API_KEY, ("x-goog-api-key", "k")),
    "no header at all": ("k", Form.NONE, None),
    "a token that must stay Bearer": ("eyJx", Form.API_KEY, ("authorization", "Bearer eyJx")),
}


@pytest.mark.parametrize(("secret", "form", "expected"), EGRESS.values(), ids=EGRESS)
@pytest.mark.parametrize("arrived", [form for form in Form if form is not Form.NONE])
def test_it_leaves_in_the_providers_form_however_it_came(
    arrived: Form, secret: str, form: Form, expected: tuple[str, str] | None
) -> None:
    assert present(Credential(arrived, secret), form, ("eyJ",)) == expected


def test_no_key_stays_no_key() -> None:
    assert present(None, Form.BEARER, ()) is None


def test_of_two_headers_that_envoy_joined_the_first_counts() -> None:
    assert took([("authorization", "Bearer one,Bearer two")], None) == (Credential(Form.BEARER, "one"), ())


OURS: dict[str, tuple[list[tuple[str, str]], tuple[str, ...]]] = {
    "as Bearer": ([("authorization", "bearer  lc_key_1")], ("lc_key_1",)),
    "as x-api-key": ([("x-api-key", "lc_key_1")], ("lc_key_1",)),
    "as api-key": ([("api-key", "lc_key_1")], ("lc_key_1",)),
    "as x-goog-api-key": ([("x-goog-api-key", " lc_key_1")], ("lc_key_1",)),
    "two": ([("x-api-key", "lc_key_1"), ("authorization", "Bearer lc_key_2")], ("lc_key_2", "lc_key_1")),
    "two that Envoy joined": ([("authorization", "Bearer lc_key_1,Bearer lc_key_2")], ("lc_key_1", "lc_key_2")),
    "behind another scheme": ([("authorization", "Basic lc_key_1")], ()),
    "without a scheme": ([("authorization", "lc_key_1")], ()),
    "with a scheme where none belongs": ([("x-api-key", "Bearer lc_key_1")], ()),
    "within another word": ([("x-api-key", "my-lc_key_1")], ()),
}


@pytest.mark.parametrize(("headers", "keys"), OURS.values(), ids=OURS)
def test_a_key_of_ours_in_a_providers_place_is_told_apart(
    headers: list[tuple[str, str]], keys: tuple[str, ...]
) -> None:
    assert took(headers, "lc_key_in-the-query") == (None, keys)


def test_a_key_of_ours_hides_no_key_for_the_provider() -> None:
    headers = [("authorization", "Bearer lc_key_1"), ("authorization", "Bearer k"), ("x-api-key", "other")]
    assert took(headers, None) == (Credential(Form.BEARER, "k"), ("lc_key_1",))
