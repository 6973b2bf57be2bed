"""One lectr that is asked in five ways: for the model that answers, for one it chooses, and by an org with limits."""

import http.client
from collections.abc import Mapping
from dataclasses import dataclass

from lectr_extproc.keys import digest
from tests.bench.arms import KEY, PROVIDER_KEY, Arm, Bench, asking, lectr_arm
from tests.bench.limits import LIMITS
from tests.bench.provider import FAILING

OTHER_KEY = "lc_key_limitedlimitedlimitedlimited"
PINNED = "pinned"


@dataclass(frozen=True, slots=True)
class Case:
    """How a call asks, and which model the answer says that lectr chose."""

    model: str = "gpt-4o"
    key: str = KEY
    chosen: str | None = None


CASES: Mapping[str, Case] = {
    PINNED: Case(),
    "chosen, one candidate": Case("one", chosen="gpt-4o"),
    "chosen, three candidates": Case("three", chosen="gpt-4o"),
    "one failover": Case("failing", chosen="gpt-4o"),
    "pinned, an org with three limits": Case(key=OTHER_KEY),
}


def choosing(bench: Bench) -> Arm:
    """All of them. The breaker is off, or the provider that fails would be asked three times and then no more."""
    held = bench.directory / "failing.key"
    held.write_text(PROVIDER_KEY)
    aliases = {"one": ["gpt-4o"], "three": ["gpt-4o", "gpt-4.1", "gpt-4.1-mini"], "failing": ["own-model", "gpt-4o"]}
    failing = {"id": "own", "base_url": f"http://127.0.0.1:{bench.provider}{FAILING}/v1", "models": ["own-model"]}
    arm = lectr_arm(
        "choosing",
        org={"aliases": aliases, "credentials": {"own": f"file:{held}"}},
        orgs=[{"name": "limited", "keys": [{"sha256": digest(OTHER_KEY)}], "limits": LIMITS}],
        providers=[failing],
        settings={"breaker": {"failures": 1000, "within_s": 1e-6}},
    )(bench)
    for name, case in CASES.items():
        if (said := _model(arm, case)) != case.chosen:
            raise AssertionError(f"{name}: {said} answered, and not {case.chosen}")
    arm.settle(len(CASES))
    return arm


def headers(arm: Arm, case: Case) -> dict[str, str]:
    return {**arm.headers, "x-lectr-key": case.key}


def _model(arm: Arm, case: Case) -> str | None:
    """Which one the answer says was chosen."""
    connection = http.client.HTTPConnection("127.0.0.1", arm.port, timeout=10)
    try:
        connection.request("POST", "/v1/chat/completions", asking(model=case.model), headers(arm, case))
        return connection.getresponse().getheader("x-model-router-model")
    finally:
        connection.close()
