"""The console's files."""

import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from lectr_extproc.edge.pages import HOME, routes

FILES = Path(__file__).parents[2] / "lectr_extproc/console"
NAMES = sorted(file.name for file in FILES.iterdir())


@pytest.fixture
def client() -> httpx.AsyncClient:
    app = Starlette(routes=routes({"x-content-type-options": "nosniff", "cache-control": "no-store"}))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1")


async def test_whoever_types_the_address_gets_the_page(client: httpx.AsyncClient) -> None:
    for typed in ("/", "/console"):
        answer = await client.get(typed, follow_redirects=True)
        assert (answer.url.path, answer.content) == (HOME, (FILES / "index.html").read_bytes())


async def test_each_file_is_served_as_what_it_is_and_only_once_while_it_stays_the_same(
    client: httpx.AsyncClient,
) -> None:
    for name in NAMES:
        answer = await client.get(HOME + name.removeprefix("index.html"))
        assert (answer.status_code, answer.content) == (200, (FILES / name).read_bytes()), name
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-cache"
        known = await client.get(answer.url, headers={"if-none-match": answer.headers["etag"]})
        assert (known.status_code, known.content) == (304, b"")
    types = {(await client.get(HOME + name)).headers["content-type"] for name in NAMES if name.endswith(".js")}
    assert types == {"text/javascript; charset=utf-8"}


async def test_nothing_runs_and_nothing_is_fetched_that_is_not_ours(client: httpx.AsyncClient) -> None:
    policy = (await client.get(HOME)).headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    page = (FILES / "index.html").read_text()
    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=", page) == []
    for name in NAMES:
        # The one address that is no address: SVG's name space.
        assert re.findall(r"https?://(?!www\.w3\.org/2000/svg|127\.0\.0\.1|\$\{)", (FILES / name).read_text()) == []


def test_text_goes_into_the_page_as_text_alone() -> None:
    dangerous = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|srcdoc"
    )
    found = [name for name in NAMES if name.endswith(".js") and dangerous.search((FILES / name).read_text())]
    assert found == []


def test_every_file_is_part_of_what_is_installed() -> None:
    patterns = tomllib.loads((FILES.parents[1] / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"][
        "*"
    ]
    assert [name for name in NAMES if not any(fnmatch(name, pattern) for pattern in patterns)] == []


def test_every_file_is_named_by_another() -> None:
    texts = {name: (FILES / name).read_text() for name in NAMES}
    unused = [name for name in NAMES if not any(name in text for other, text in texts.items() if other != name)]
    assert unused == ["index.html"]
