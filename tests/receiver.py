"""A real OTLP receiver that we did not write, Datadog's test agent: what it understood is read back as JSON."""

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

AGENT = Path(__file__).parents[1] / ".tools/ddapm-test-agent"
READY_WITHIN_S = 30.0
ARRIVES_WITHIN_S = 20.0

Attributes = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Receiver:
    """A running agent, which keeps what it gets until it is cleared."""

    http_port: int
    grpc_port: int

    def endpoint(self, protocol: str) -> str:
        return f"http://127.0.0.1:{self.grpc_port if protocol == 'grpc' else self.http_port}"

    def clear(self) -> None:
        self._get("clear")

    def spans(self, count: int = 1) -> list[Any]:
        """Every span so far, once there are `count`, each as OTLP's JSON with its `attributes` as a mapping."""

        def arrived() -> list[Any]:
            scopes = (
                scope for sent in self._get("traces") for r in sent["resource_spans"] for scope in r["scope_spans"]
            )
            return [span for scope in scopes for span in scope["spans"]]

        found = _await(lambda: len(spans := arrived()) >= count and spans, f"{count} spans")
        return [{**span, "attributes": plain(span["attributes"])} for span in found]

    def resources(self) -> list[Attributes]:
        """What was said about the sender, per request with spans."""
        return [plain(r["resource"]["attributes"]) for sent in self._get("traces") for r in sent["resource_spans"]]

    def metric(self, name: str) -> Any:
        """The last export of a metric; waits for the first."""
        found = _await(lambda: [metric for metric in self._metrics() if metric["name"] == name], name)
        return found[0]  # the agent tells what came last first

    def units(self) -> dict[str, str]:
        """Of every metric that has come so far."""
        return {metric["name"]: metric["unit"] for metric in self._metrics()}

    def _metrics(self) -> Iterator[Any]:
        scopes = (s for sent in self._get("metrics") for r in sent["resource_metrics"] for s in r["scope_metrics"])
        return (metric for scope in scopes for metric in scope["metrics"])

    def points(self, metric: str) -> list[tuple[Attributes, Any]]:
        """Its data points, with their labels."""
        last = self.metric(metric)
        data = last.get("sum") or last["histogram"]
        return [(plain(point.get("attributes", [])), point) for point in data["data_points"]]

    def requests(self) -> list[Any]:
        """The HTTP requests as they came: headers, and the raw body in base64."""
        return list(self._get("requests"))

    def _get(self, what: str) -> Any:
        answer = httpx.get(f"http://127.0.0.1:{self.http_port}/test/session/{what}", trust_env=False, timeout=10)
        answer.raise_for_status()
        return answer.json() if what != "clear" else None


@contextmanager
def receiver(directory: Path) -> Iterator[Receiver]:
    """Run an agent for as long as the block lasts."""
    assert AGENT.exists(), "`make setup` unpacks the receiver into .tools"
    port, http_port, grpc_port = _free_ports(3)
    ports = ["-p", str(port), "--otlp-http-port", str(http_port), "--otlp-grpc-port", str(grpc_port)]
    # Without site-packages: its dependencies are older than ours.
    run = [sys.executable, "-S", "-c", "import sys; from ddapm_test_agent.agent import main; main(sys.argv[1:])"]
    with (directory / "receiver.log").open("w") as log:
        process = subprocess.Popen(
            [*run, "--host", "127.0.0.1", *ports, "--disable-llmobs-data-forwarding"],
            env={"PYTHONPATH": str(AGENT)},
            cwd=directory,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            _await(lambda: process.poll() is not None or all(map(_listens, ports[1::2])), "a receiver", READY_WITHIN_S)
            assert process.poll() is None, (directory / "receiver.log").read_text()
            yield Receiver(http_port, grpc_port)
        finally:
            process.terminate()
            process.wait()


def plain(attributes: list[Any]) -> Attributes:
    """OTLP's key-value pairs with the types that OTLP said."""
    return {pair["key"]: _value(pair["value"]) for pair in attributes}


def _value(value: dict[str, Any]) -> Any:
    ((kind, said),) = value.items()
    match kind:
        case "int_value":
            return int(said)
        case "array_value":
            return [_value(member) for member in said.get("values", [])]
        case _:
            return said


def _await(holds: Callable[[], Any], what: str, within_s: float = ARRIVES_WITHIN_S) -> Any:
    """Poll for something another process does, which tells nobody when it is done."""
    deadline = time.monotonic() + within_s
    while not (found := holds()):
        assert time.monotonic() < deadline, f"{what} was expected within {within_s} s"
        time.sleep(0.02)
    return found


def _listens(port: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(port))) == 0


def _free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports
