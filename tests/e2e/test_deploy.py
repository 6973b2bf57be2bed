"""The containers of deploy/kubernetes, started by their own commands: rendered, called, and ended in order."""

import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.answers import data
from tests.e2e.calls import CHAT, JSON, asking, call, new_id
from tests.e2e.conftest import once
from tests.e2e.gateway import LECTR, STOP_WITHIN_S, Apart, Build, wait_until
from tests.e2e.provider import Gate, sse_answer
from tests.e2e.rawhttp import Connection
from tests.e2e.scene import Providers, settings_for
from tests.kustomize import build as kustomized
from tests.kustomize import containers, of_kind


class Pod(Apart):
    """The processes of a pod, with its commands and settings; its paths, ports, orgs and providers are the test's."""

    def __init__(self, folder: str, build: Build, providers: Providers, directory: Path) -> None:
        self.containers = containers(folder)
        self._directory = directory
        text = of_kind(kustomized(folder), "ConfigMap")["data"]["lectr.yaml"]
        self._settings = yaml.safe_load(self.at_home(text))
        super().__init__(build, settings_for(providers), directory)

    def filled_in(self, settings: Any) -> dict[str, Any]:
        ours = super().filled_in(settings)
        ledger = {"url": f"sqlite://{self.processes.directory}/ledger.db"}
        del self._settings["credentials"]  # clients of these tests bring their own keys
        return {**self._settings, **ours, "envoy": {**self._settings["envoy"], **ours["envoy"]}, "ledger": ledger}

    def at_home(self, text: str) -> str:
        """With the test's folder in the place of the volumes."""
        return text.replace("/run/lectr", str(self._directory)).replace("/var/spool/lectr", str(self._directory))

    def here(self, text: str) -> str:
        """A word of a command, with Envoy's admin port of the test, too, and no time for a cluster to take note."""
        return self.at_home(text).replace("/9901", f"/{self.envoy_admin_port}").replace("sleep 5", "sleep 0")

    def _start(self) -> None:
        render = [*LECTR, *map(self.here, self.containers["lectr-render"]["args"]), "--config", str(self.config)]
        subprocess.run(render, check=True, capture_output=True)
        self.process = self.serve()
        _, *arguments = map(self.here, self.containers["envoy"]["args"])
        self.envoy = self.processes.start([str(self.build.binary), *arguments])
        self._await(self.envoy, self._knows_lectr)


@once
def test_a_pod_that_ends_gives_its_last_answers_and_keeps_their_records(
    build: Build, providers: Providers, tmp_path: Path
) -> None:
    gate, before, during = Gate(), new_id(), new_id()
    with Pod("kubernetes/gateway", build, providers, tmp_path) as pod:
        probe = containers("kubernetes/app")["envoy"]["startupProbe"]["exec"]["command"]
        assert subprocess.run(list(map(pod.here, probe)), check=False).returncode == 0
        assert call(pod, call_id=before).status_code == 200
        providers["openai"].answer_with(sse_answer([data({"choices": []}), gate, b"data: [DONE]\n\n"]))
        with Connection(pod.port) as connection:
            headers = [*JSON.items(), ("x-request-id", during)]
            connection.send("POST", CHAT, headers, asking(stream=True, stream_options={"include_usage": True}))
            assert connection.read_head().status == 200

            hook = pod.containers["envoy"]["lifecycle"]["preStop"]["exec"]["command"]
            ending = subprocess.Popen(list(map(pod.here, hook)))
            wait_until(lambda: call(pod).headers.get("connection") == "close", "an Envoy that sends callers elsewhere")
            assert ending.poll() is None

            gate.open()
            assert b"".join(connection.chunks()).endswith(b"[DONE]\n\n")
        assert ending.wait(STOP_WITHIN_S) == 0
        pod.stop()
        pod.record(before)
        pod.record(during)
