import pytest
from hypothesis import given
from hypothesis import strategies as st

from lectr_extproc.core.identity import org_of, workload_in

WEB = "spiffe://cluster.local/ns/shop/sa/web"

HEADERS: dict[str, tuple[list[str], str | None]] = {
    "as Envoy writes it": ([f"By=spiffe://x/me;Hash=468ed3;URI={WEB}"], WEB),
    "everything that it may write": (
        [f'Hash=4;Cert="-----BEGIN%20";Chain="a";Subject="CN=a,O=\\"b;c\\"";URI={WEB};DNS=a.test;DNS=b.test'],
        WEB,
    ),
    "in quotes": ([f'URI="{WEB}"'], WEB),
    "in other letters": ([f"uri={WEB}"], WEB),
    "behind others": ([f"URI=spiffe://x/forged,By=x;Hash=1;URI={WEB}"], WEB),
    "in another copy": (["URI=spiffe://x/forged", f"URI={WEB}"], WEB),
    "a comma in a subject": ([f'URI={WEB};Subject="CN=x,URI=spiffe://x/forged"'], WEB),
    "none": ([], None),
    "nothing": ([""], None),
    "no URI": (["By=x;Hash=1;URI=;DNS=a"], None),
    "no URI in the last": ([f"URI={WEB},Hash=1"], None),
    "several": ([f"URI={WEB};URI=spiffe://x/other"], None),
    "a quote that never ends": ([f'Subject="CN=a;URI={WEB}'], None),
    "something behind a quote": ([f'Subject="CN=a"b;URI={WEB}'], None),
    "an end without a certificate": ([f"URI={WEB},"], None),
    "no pairs": ([WEB], None),
}


@pytest.mark.parametrize(("values", "workload"), HEADERS.values(), ids=HEADERS)
def test_the_last_certificate_says_who_calls(values: list[str], workload: str | None) -> None:
    headers = [("host", "x"), *(("x-forwarded-client-cert", value) for value in values)]
    assert workload_in(headers) == workload


@given(st.text(), st.from_regex(r"spiffe://[a-z]+(/[a-z]+){1,4}", fullmatch=True))
def test_whatever_a_client_had_written_only_what_envoy_puts_behind_it_counts(forged: str, own: str) -> None:
    assert workload_in([("x-forwarded-client-cert", f"{forged},By=x;URI={own}")]) in (own, None)


ORGS = {WEB: 1, "spiffe://cluster.local/ns/shop/*": 2, "spiffe://cluster.local/*": 3}

WORKLOADS: dict[str, int | None] = {
    WEB: 1,
    f"{WEB}/x": 2,
    "spiffe://cluster.local/ns/shop/sa/other": 2,
    "spiffe://cluster.local/ns/shop": 3,
    "spiffe://cluster.local/ns/shopping/sa/web": 3,
    "spiffe://cluster.local/x": 3,
    "spiffe://cluster.local": None,
    "spiffe://cluster.local.evil/x": None,
    "x": None,
    "": None,
}


@pytest.mark.parametrize(("workload", "org"), WORKLOADS.items(), ids=WORKLOADS)
def test_a_workload_belongs_to_whoever_wrote_most_of_it(workload: str, org: int | None) -> None:
    assert org_of(workload, ORGS) == org
