import http.server
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from lectr_extproc.edge.envoy import EnvoyError
from lectr_extproc.edge.envoy_admin import look_at
from tests.ports import free_port

PAGES = {
    "/server_info": '{"version": "9e55809/1.40.0/Clean/RELEASE/BoringSSL"}',
    "/config_dump": '{"configs": []}',
    "/clusters?format=json": '{"cluster_statuses": []}',
    "/stats?usedonly": 'a.b: 3\na.text: "x: y"\na.time: P0(nan,1) P25(nan,2)\n',
}


@contextmanager
def admin(pages: Mapping[str, str]) -> Iterator[str]:
    """An admin port with these pages."""

    class Pages(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = pages.get(self.path)
            self.send_response(404 if page is None else 200)
            self.end_headers()
            self.wfile.write((page or "").encode())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", free_port()), Pages) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_an_envoy_is_asked_for_all_that_is_judged() -> None:
    with admin(PAGES) as address:
        running = look_at(address)
        assert running == look_at(f"http://{address}/")
    assert running.version == (1, 40, 0)
    assert (running.dump, running.clusters) == ({"configs": []}, {"cluster_statuses": []})
    assert running.counters == {"a.b": 3}


WRONG: dict[str, Mapping[str, str]] = {
    "another server": {},
    "no JSON": {**PAGES, "/config_dump": "<html>"},
    "a list": {**PAGES, "/clusters?format=json": "[]"},
    "no version": {**PAGES, "/server_info": '{"version": "nginx"}'},
}


@pytest.mark.parametrize("pages", WRONG.values(), ids=WRONG)
def test_who_is_no_envoy_is_not_judged(pages: Mapping[str, str]) -> None:
    with admin(pages) as address, pytest.raises(EnvoyError, match=f"no Envoy answers at http://{address}: name its"):
        look_at(address)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "http://[", "127.0.0.1:port"])
def test_where_nobody_listens_there_is_no_envoy(address: str) -> None:
    with pytest.raises(EnvoyError, match="no Envoy answers"):
        look_at(address)
