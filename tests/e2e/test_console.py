"""The console as people meet it: in a real Chromium, served by a real lectr that has seen real calls."""

from collections.abc import Iterator

import pytest

from tests.chromium import Chromium, Page
from tests.e2e.conftest import once
from tests.e2e.gateway import Gateway

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
PHONE = {"width": 390, "height": 844}

pytestmark = once


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with Chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def tab(browser: Chromium) -> Page:
    return browser.page()


@pytest.fixture
def page(tab: Page, gateway: Gateway) -> Page:
    """The console, on a large light screen."""
    tab.look()
    tab.open(f"http://127.0.0.1:{gateway.admin_port}/")
    tab.js("localStorage.clear(); sessionStorage.clear()")
    tab.said.clear()
    return tab


def test_every_view_has_a_key_and_help_names_them_all(page: Page) -> None:
    for key, title in VIEWS.items():
        page.press(key)
        page.until(f"document.querySelector('h1').textContent === '{title}' && document.title === '{title} – lectr'")
    page.press("?", shift=True)
    page.until("document.querySelector('dialog[open]')")
    assert all(title in page.js("document.querySelector('#keys').innerText") for title in VIEWS.values())
    page.press("Escape")
    page.until("!document.querySelector('dialog[open]')")


def test_colours_are_those_of_the_system_until_others_are_chosen(page: Page) -> None:
    def paper() -> str:
        return str(page.js("getComputedStyle(document.documentElement).backgroundColor"))

    light = paper()
    page.look(scheme="dark")
    dark = paper()
    assert light != dark
    page.press("t")
    assert paper() == light, "chosen, though the system is dark"
    page.press("t")
    page.look()
    assert paper() == dark
    page.open(page.js("location.href"))
    assert paper() == dark, "kept, and there before anything is drawn"
