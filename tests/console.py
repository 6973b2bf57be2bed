"""`python -m tests.console`: how soon the console shows 100,000 calls, view by view; --pictures makes its docs' own."""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from lectr_extproc.edge.sqlite import Sqlite
from lectr_extproc.edge.store import Store
from tests.chromium import Chromium, Page
from tests.e2e.gateway import LECTR, wait_until
from tests.ports import free_port
from tests.traffic import calls, fill

IMAGES = Path(__file__).parents[1] / "docs/images"
CALLS = 100_000
ROUNDS = 9
VIEWS = ("overview", "models", "features", "calls", "recommendations", "anomalies", "limits", "providers", "settings")
PICTURES = {
    "overview-light": ("overview", ""),
    "overview-dark": ("overview?show=cost", ""),
    "models-light": ("models?range=7d", ""),
    "calls-dark": ("calls?feature=", "[...document.querySelectorAll('.call summary')].at(FAILED_OVER).click()"),
    "recommendations-light": ("recommendations", "document.querySelector('.advice summary').click()"),
    "phone-dark": ("overview", ""),
}
"Each view, and what is clicked there."

SHOWN = """new Promise(done => {
  const view = document.querySelector('#view'), begun = performance.now();
  location.hash = HASH;
  const look = () => view.dataset.view === NAME && view.getAttribute('aria-busy') === 'false'
    ? setTimeout(() => done(performance.now() - begun)) : requestAnimationFrame(look);
  requestAnimationFrame(look);
})"""
"From the click to the frame that has it; a task begins once that frame is painted."


@contextmanager
def lectr_of(count: int) -> Iterator[tuple[str, int]]:
    """A lectr with so many calls behind it: the address of its console, and its process."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        store = Store(Sqlite(directory / "ledger.db"))
        store.migrate()
        fill(store, calls(count, time.time()))
        store.close()
        port = free_port()
        orgs = [
            {"name": name, "keys": [{"sha256": hashlib.sha256(name.encode()).hexdigest(), "label": "backend"}]}
            for name in ("acme", "azurite")
        ]
        settings = {
            "orgs": orgs,
            "admin": {"listen": f"127.0.0.1:{port}"},
            "grpc": {"listen": f"unix:{directory}/lectr.sock"},
            "ledger": {"url": f"sqlite://{directory}/ledger.db"},
        }
        (directory / "lectr.yaml").write_text(json.dumps(settings))
        environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
        process = stack.enter_context(
            subprocess.Popen(
                [*LECTR, "serve", "--config", str(directory / "lectr.yaml")], env=environment, stderr=subprocess.DEVNULL
            )
        )
        stack.callback(process.terminate)
        address = f"http://127.0.0.1:{port}/console/"
        wait_until(lambda: _answers(address), "a console", 60)
        wait_until(lambda: httpx.get(f"{address}api/recommendations").json()["as_of"], "recommendations", 60)
        wait_until(lambda: httpx.get(f"{address}api/anomalies").json()["as_of"], "anomalies", 60)
        yield address, process.pid


def _answers(address: str) -> bool:
    try:
        return httpx.get(address).is_success
    except httpx.TransportError:
        return False


def show(page: Page, place: str) -> float:
    """Milliseconds until a view is there to be read."""
    name = place.partition("?")[0]
    return float(page.js(SHOWN.replace("HASH", json.dumps(f"#{place}")).replace("NAME", json.dumps(name))))


def cpu_ms(pid: int) -> float:
    """What a process and its children have computed so far."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    tasks = Path(f"/proc/{pid}/task").iterdir()
    children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    return (int(user) + int(system)) * 1000 / os.sysconf("SC_CLK_TCK") + sum(map(cpu_ms, children))


def measure(page: Page, address: str, lectr: int, browser: int) -> None:
    page.open(address)
    show(page, "models?range=30d")
    taken: dict[str, list[tuple[float, ...]]] = {view: [] for view in VIEWS}
    for _ in range(ROUNDS):
        for view, figures in taken.items():
            page.until("!document.querySelector('.tile') || document.querySelector('.ranking')")  # the rest of it
            before = cpu_ms(lectr), cpu_ms(browser)
            wall = show(page, f"{view}?range=30d")
            figures.append((wall, cpu_ms(lectr) - before[0], cpu_ms(browser) - before[1]))
    print(f"{CALLS:,} calls; milliseconds from the click to the painted view, least and median of {ROUNDS} rounds")
    print("view              least  median   CPU of lectr  of Chromium")
    for view, figures in taken.items():
        walls, ours, theirs = zip(*figures, strict=True)
        print(f"{view:<15}  {min(walls):6.0f}  {statistics.median(walls):6.0f}  {min(ours):13.0f}  {min(theirs):11.0f}")


def picture(page: Page, address: str) -> None:
    found = httpx.get(f"{address}api/calls?feature=").json()["calls"]
    failed_over = next((place for place, one in enumerate(found) if one["tries"]), 0)
    for name, (place, click) in PICTURES.items():
        kind, _, scheme = name.rpartition("-")
        page.look(width=390 if kind == "phone" else 1320, height=844, scheme=scheme, calm=True)
        page.open(address)
        show(page, place)
        page.js(click.replace("FAILED_OVER", str(failed_over)) or "null")
        page.until("!document.querySelector('.tile') || document.querySelector('.ranking')")
        page.until(
            "document.querySelectorAll('#filter-org option').length > 2 || document.querySelector('#filters').hidden"
        )
        IMAGES.mkdir(exist_ok=True)
        file = IMAGES / f"console-{name}.png"
        file.write_bytes(page.picture())
        print(f"{file.relative_to(IMAGES.parents[1])}  {file.stat().st_size:,} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", action="store_true")
    has_pictures = parser.parse_args().pictures
    with lectr_of(CALLS) as (address, lectr), Chromium() as browser:
        if has_pictures:
            picture(browser.page(), address)
        else:
            measure(browser.page(), address, lectr, browser.pid)


if __name__ == "__main__":
    main()
