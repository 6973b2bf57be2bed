"""The console as people meet it: in a real Chromium, served by a real lectr that has seen real calls."""

import json
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from lectr_extproc.core.report import Filters, Line
from lectr_extproc.edge.sqlite import Sqlite
from lectr_extproc.edge.store import Store
from tests.chromium import Chromium, Page
from tests.e2e.calls import CLAUDE_MESSAGES, JSON, asking, call
from tests.e2e.gateway import BUILDS, HTTP, LECTR, Gateway, Processes, wait_until
from tests.e2e.scene import ORG, Providers, org, secret, settings_for
from tests.ports import free_port
from tests.traffic import calls, fill

VIEWS = {
    "o": "Overview",
    "m": "Models",
    "f": "Features",
    "c": "Live calls",
    "r": "Recommendations",
    "a": "Anomalies",
    "l": "Limits",
    "p": "Providers",
    "s": "Settings",
}
PHONE_WIDTH = 390
ATTACK = "<img src=x onerror=\"document.title='taken'\">"
DRAWN = "document.querySelector('#view').dataset.view === location.hash.slice(1).split('?')[0]"
TOKEN = secret("admin-")


@pytest.fixture(scope="module")
def tab() -> Iterator[Page]:
    with Chromium() as browser:
        yield browser.page()


@pytest.fixture(scope="module")
def seen(listening: Providers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with nine days behind it, and some calls of this minute."""
    directory = tmp_path_factory.mktemp("console")
    settings = settings_for(listening)
    settings["orgs"][0] |= {"limits": {"requests_per_minute": 40}}
    settings["orgs"].append(org("acme", secret("lc_key_")))
    settings["anomalies"] = {"min_calls": 10}
    settings["recommend"] = {"min_calls": 20, "min_saving_usd": 0.01}
    (directory / "lectr").mkdir()
    store = Store(Sqlite(directory / "lectr/ledger.db"))
    store.migrate()
    made = calls(12_000, time.time(), days=9)
    hasty = [one for one in made if one.feature == "onboarding" and one.call_id[-1] in "01234567"]
    untold = {id(one): replace(one, feature=None, task=None, task_known=None) for one in hasty}
    fill(store, [untold.get(id(one), one) for one in made])
    store.close()
    with Gateway(BUILDS[0], settings, directory) as gateway:
        tagged = {**JSON, "X-Lectr-Feature": ATTACK, "X-Lectr-Task": "classification"}
        for headers in (JSON, tagged, {"X-Lectr-Key": "lc_key_of-nobody-and-nothing-0"}):
            call(gateway, headers=headers)
        call(gateway, CLAUDE_MESSAGES, body=asking("claude-sonnet-4-6", max_tokens=9, stream=True))
        wait_until(lambda: gateway.healthz().json()["ledger"]["written"] >= 3, "rows of them")
        yield gateway


@pytest.fixture
def page(tab: Page, seen: Gateway) -> Page:
    """The console, on a large light screen, as somebody finds it who has never been there."""
    tab.look()
    tab.open(f"http://127.0.0.1:{seen.admin_port}/console/")
    tab.js("localStorage.clear(), sessionStorage.clear()")
    tab.open(f"http://127.0.0.1:{seen.admin_port}/")
    tab.until("document.querySelector('.tile')")
    tab.said.clear()
    return tab


def go(page: Page, where: str) -> None:
    page.js(f"location.hash = {json.dumps(where)}")
    page.until(f"{DRAWN} && document.querySelector('#view').getAttribute('aria-busy') === 'false'")


def texts(page: Page, selector: str) -> list[str]:
    found: list[str] = page.js(f"[...document.querySelectorAll({json.dumps(selector)})].map(each => each.innerText)")
    return found


def total(gateway: Gateway, **filters: Any) -> Line:
    store = Store(Sqlite(gateway.processes.directory / "lectr/ledger.db", read_only=True))
    try:
        return store.report(Filters(**filters))["total"][0]
    finally:
        store.close()


def test_every_view_has_a_key_and_draws_what_there_is_without_a_complaint(page: Page) -> None:
    for key, title in VIEWS.items():
        page.press(key)
        page.until(f"document.querySelector('h1').textContent === '{title}' && document.title === '{title} – lectr'")
        page.until(f"{DRAWN} && document.querySelector('#view').innerText.length > 20")
        assert texts(page, "#trouble > *") == [], title
    page.press("?", shift=True)
    page.until("document.querySelector('dialog[open]')")
    assert set(VIEWS.values()) <= set(texts(page, "#keys dd"))
    page.press("Escape")
    page.until("!document.querySelector('dialog[open]')")
    assert page.said == []


def test_its_figures_are_the_ledgers_and_filters_stand_in_the_address(page: Page, seen: Gateway) -> None:
    go(page, "models?range=30d")
    page.choose("#filter-provider", "anthropic")
    page.until("location.hash.includes('provider=anthropic')")
    page.until("document.querySelectorAll('table.cards tbody tr').length === 1")
    row = texts(page, "table.cards tbody tr > *")
    claude = total(seen, provider="anthropic")
    assert row[0] == "claude-sonnet-4-6"
    assert row[2] == f"{claude.requests:,}"
    page.choose("#filter-feature", "labs")
    page.shows("No call matches these filters")
    page.js("history.back()")
    page.until("document.querySelectorAll('table.cards tbody tr').length === 1")
    page.click("#clear")
    page.until("document.querySelectorAll('table.cards tbody tr').length > 5")
    page.choose("#filter-feature", " without")
    untagged = total(seen, feature="", provider="bedrock").requests
    page.until(
        f"[...document.querySelectorAll('.divided li')].some(each => each.innerText.includes('{untagged:,} · '))"
    )
    page.click("#clear")
    page.click("table.cards tbody a")
    page.until("location.hash.includes('model=') && document.querySelectorAll('table.cards tbody tr').length < 4")
    assert page.said == []


def test_a_call_appears_by_itself_with_its_reasons_and_its_timing(page: Page, seen: Gateway) -> None:
    go(page, "calls")
    newest = "document.querySelector('.call summary').id"
    before = page.js(newest)
    assert call(seen, headers={**JSON, "X-Lectr-Feature": "just now"}).status_code == 200
    page.until(f"{newest} !== {json.dumps(before)}")
    assert "just now" in texts(page, ".call summary")[0]
    page.click(".call summary")
    page.until("document.querySelectorAll('.call[open] .waterfall rect').length >= 2")
    assert "openai, because of how the name gpt-4o begins" in "".join(texts(page, ".call[open] .why li"))
    assert f"Organisation\n{ORG}" in texts(page, ".call[open] .facts")[0]
    page.click("#older")
    page.until("document.querySelectorAll('.call').length > 60")
    assert len(set(page.js("[...document.querySelectorAll('.call summary')].map(each => each.id)"))) > 60
    assert page.said == []


def test_what_nobody_looks_at_is_not_read_again(page: Page) -> None:
    page.js("window.later = []; const set = setTimeout; window.setTimeout = (f, ms) => later.push(ms) && set(f, ms)")
    for hidden, waits in (("true", False), ("false", True)):
        page.js(f"Object.defineProperty(document, 'hidden', {{value: {hidden}, configurable: true}}); later.length = 0")
        page.js("document.dispatchEvent(new Event('visibilitychange')); document.querySelector('.tiles').id = 'old'")
        page.press(".")
        page.until("!document.querySelector('#old') && document.querySelector('.ranking')")
        page.until(f"later.some(ms => ms >= 1000) === {json.dumps(waits)}")


def test_what_a_client_wrote_is_shown_and_never_run(page: Page) -> None:
    for where in ("overview", "features", "calls", "models?feature=" + ATTACK):
        go(page, where)
        page.until(
            f"document.querySelector('main').innerText.includes('onerror') || {json.dumps(where)} === 'overview'"
        )
        assert page.js("document.querySelectorAll('#content img').length") == 0
        assert "taken" not in page.js("document.title")
    assert page.said == []


def test_savings_are_shown_with_the_rule_that_tries_them(page: Page) -> None:
    go(page, "recommendations")
    page.shows("a month could be saved", "openai/gpt-oss-20b")
    page.js("document.querySelectorAll('.advice details').forEach(each => { each.open = true })")
    given = texts(page, ".advice pre")
    rule, of_untagged = sorted((rule for rule in given if "gpt-oss-20b" in rule), key=lambda rule: "keep-" in rule)
    assert '- name: "acme"' in rule
    assert 'split: [{weight: 90}, {weight: 10, model: "openai/gpt-oss-20b"}]' in rule
    assert "keep-" not in rule
    kept, tried = 'when: {task: "reasoning", model: "openai/gpt-oss-120b"}', 'when: {model: "openai/gpt-oss-120b"}'
    assert 0 < of_untagged.index(kept) < of_untagged.index(tried)
    page.shows("It reaches other calls to this model, too")
    assert page.said == []


def test_an_anomaly_is_told_and_can_be_dismissed(page: Page) -> None:
    go(page, "anomalies")
    page.until("document.querySelector('.anomaly')")
    count = len(texts(page, ".anomaly"))
    assert any("Errors" in told and "acme · search" in told for told in texts(page, ".anomaly"))
    page.click(".anomaly button")
    page.until(f"document.querySelectorAll('.anomaly').length === {count - 1}")
    page.click("#dismissed")
    page.until(f"document.querySelectorAll('.anomaly').length === {count}")
    assert len(texts(page, ".anomaly.gone")) == 1
    assert page.said == []


def test_limits_are_bars_and_settings_have_no_secret(page: Page) -> None:
    go(page, "limits")
    page.until("document.querySelector('.limit')")
    assert page.js("document.querySelector('.meter').getAttribute('aria-valuetext')").endswith("%")
    assert any(" of 40 requests" in told for told in texts(page, ".limit"))
    go(page, "settings")
    page.click("#section-orgs summary")
    page.shows(ORG, "sha256")
    assert max(len(value) for value in texts(page, "#view code")) < 64, "no digest whole"
    assert page.said == []


def test_a_phone_shows_every_view_without_scrolling_sideways(page: Page) -> None:
    for scheme in ("light", "dark"):
        page.look(width=PHONE_WIDTH, height=844, scheme=scheme)
        for key, title in VIEWS.items():
            page.press(key)
            page.until(f"{DRAWN} && document.querySelector('#view').getAttribute('aria-busy') === 'false'")
            assert page.js("document.documentElement.scrollWidth") <= PHONE_WIDTH, title
    assert page.said == []


def test_everything_can_be_reached_and_read_by_keyboard(page: Page) -> None:
    focused = "document.activeElement"
    page.press("Tab")
    assert page.js(f"{focused}.id") == "skip"
    page.press("Enter")
    assert page.js(f"{focused}.id") == "content"
    page.js("document.querySelector('.trend .plot').focus()")
    page.press("ArrowLeft")
    page.press("ArrowLeft")
    page.until("document.querySelector('.read').textContent.includes('call')")
    page.js("document.querySelector('.tiles').id = 'old'")
    page.press(".")
    page.until("!document.querySelector('#old') && document.querySelector('.read').textContent.includes('call')")
    assert page.js(f"{focused}.className") == "plot", "what is read stays, though it is drawn again"
    page.press("/")
    assert page.js(f"{focused}.id") == "filter-range"
    page.press("m")
    assert page.js("location.hash") in {"", "#overview"}, "letters belong to the control that has the focus"
    page.js(f"{focused}.blur()")
    page.press("m")
    page.until(f"{DRAWN} && document.querySelector('table.cards')")
    assert page.js(f"{focused}.id") == "title", "a reader hears the new view's name"
    sort = "document.querySelector('table.cards thead th:nth-child(4) button')"
    page.js(f"{sort}.focus()")
    page.press("Enter")
    assert page.js(f"{focused}.closest('th').getAttribute('aria-sort')") == "descending"
    page.press("Enter")
    assert page.js(f"{focused}.closest('th').getAttribute('aria-sort')") == "ascending"
    assert page.said == []


def test_colours_are_those_of_the_system_until_others_are_chosen(page: Page) -> None:
    def paper() -> str:
        return str(page.js("getComputedStyle(document.documentElement).backgroundColor"))

    light = paper()
    page.look(scheme="dark", calm=True)
    dark = paper()
    assert light != dark
    assert page.js("getComputedStyle(document.querySelector('#view')).transitionDuration") == "0s"
    page.press("t")
    assert paper() == light, "chosen, though the system is dark"
    page.press("t")
    page.look()
    assert paper() == dark
    page.open(page.js("location.href"))
    assert paper() == dark, "kept, and there before anything is drawn"


class FirstDay:
    """A lectr that nobody called, whose ledger has no place, and whose admin port has a token."""

    def __init__(self, directory: Path) -> None:
        (directory / "taken").write_text("by a file")
        self.port = free_port()
        settings = {
            "orgs": [org(ORG, secret("lc_key_"))],
            "grpc": {"listen": f"unix:{directory}/lectr.sock"},
            "admin": {"listen": f"127.0.0.1:{self.port}", "token": "env:ADMIN_TOKEN"},
            "ledger": {"url": f"sqlite://{directory}/taken/ledger.db"},
        }
        self._file = directory / "lectr.yaml"
        self._file.write_text(json.dumps(settings))
        self.processes = Processes(directory)
        self.start()

    def start(self) -> None:
        self._lectr = self.processes.start([*LECTR, "serve", "--config", str(self._file)], ADMIN_TOKEN=TOKEN)
        wait_until(self._is_alive, "a lectr")

    def kill(self) -> None:
        self._lectr.send_signal(signal.SIGKILL)
        self._lectr.wait()

    def _is_alive(self) -> bool:
        try:
            return HTTP.get(f"http://127.0.0.1:{self.port}/livez").is_success
        except httpx.TransportError:
            return False


@pytest.fixture
def first_day(tmp_path: Path) -> Iterator[FirstDay]:
    lectr = FirstDay(tmp_path)
    yield lectr
    lectr.processes.kill()


def test_the_token_is_asked_for_once_and_a_first_day_says_what_to_do(tab: Page, first_day: FirstDay) -> None:
    tab.look()
    tab.open(f"http://127.0.0.1:{first_day.port}/")
    for token in ("another", TOKEN):
        tab.until("document.querySelector('#door[open] #token')")
        tab.js("document.querySelector('#token').focus()")
        tab.type(token)
        tab.press("Enter")
        tab.until("!document.querySelector('#door[open]') || document.querySelector('#token').value === ''")
        if token != TOKEN:
            tab.shows("That one is not it.")
    tab.shows("No calls in this time", "curl http://127.0.0.1:10000/v1/chat/completions", "lectr keys new")
    tab.shows("Observability degraded — data may be incomplete", "ledger")
    assert TOKEN not in tab.js("location.href + document.documentElement.outerHTML + JSON.stringify(localStorage)")
    tab.press("m")
    tab.until(DRAWN)

    first_day.kill()
    tab.press(".")
    tab.shows("lectr does not answer", "Trying again in", "No calls in this time")
    first_day.start()
    tab.until("document.querySelector('#trouble').childElementCount === 0")
