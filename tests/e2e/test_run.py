"""`lectr run` as a newcomer meets it: no settings, no keys, and what it prints works as it is printed."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any

import anthropic
import httpx
import openai
import pytest
import yaml

from lectr_extproc.catalog.providers import PROVIDERS
from tests.e2e.conftest import once
from tests.e2e.gateway import LECTR, STOP_WITHIN_S, Build, Processes, children_of, wait_until
from tests.e2e.scene import HUSH, PROMPT, Providers, secret, settings_for
from tests.ports import free_port

KEY_NAMES = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GROQ_API_KEY", "GEMINI_API_KEY", "AZURE_OPENAI_API_KEY")
SERVING = "Ctrl-C stops it."
MESSAGES = [{"role": "user", "content": PROMPT}]


class Practice:
    """A running `lectr run` without settings."""

    def __init__(self, build: Build, directory: Path, **environment: str) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self.directory = directory
        self.processes = Processes(directory)
        envoy_admin, admin = (f"127.0.0.1:{free_port()}" for _ in range(2))
        settings = directory / "ports.yaml"  # has no org, and so leaves the practising to `lectr run`
        envoy = {"listen": self.address, "admin": envoy_admin, "profile": build.profile}
        settings.write_text(yaml.safe_dump({"envoy": envoy, "admin": {"listen": admin}}))
        self.process = self.processes.start(
            [*LECTR, "run", "--config", str(settings), "--envoy-binary", str(build.binary)],
            **dict.fromkeys((*KEY_NAMES, "AZURE_OPENAI_ENDPOINT", "LECTR_CONFIG"), "") | environment,
        )

    def banner(self) -> str:
        self.processes.lines(SERVING)
        return self.processes.output

    def printed(self, after: str) -> str:
        """The indented block below a line of the banner."""
        block = self.banner().partition(f"\n{after}\n\n")[2].partition("\n\n")[0]
        return dedent(block)

    def key(self) -> str:
        found = re.search(r"lc_key_[\w-]+", self.banner())
        assert found
        return found[0]


@contextmanager
def practising(build: Build, directory: Path, **environment: str) -> Iterator[Practice]:
    practice = Practice(build, directory, **environment)
    try:
        practice.banner()
        yield practice
        practice.process.send_signal(signal.SIGTERM)
        practice.process.wait(STOP_WITHIN_S)
    finally:
        practice.processes.kill()


@pytest.fixture(scope="module")
def practice(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Practice]:
    with practising(build, tmp_path_factory.mktemp("practice")) as practice:
        yield practice


def test_the_printed_curl_command_works_as_it_is_printed(practice: Practice) -> None:
    command = practice.printed("curl:")
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True, timeout=20)
    answer = yaml.safe_load(done.stdout)
    assert "practice provider playing openai" in answer["choices"][0]["message"]["content"]
    assert answer["model"] == "gpt-4o-mini"


def test_the_printed_openai_snippet_works_as_it_is_printed(practice: Practice) -> None:
    program = practice.printed("OpenAI SDK:")
    assert program.startswith("from openai import OpenAI")
    environment = {name: value for name, value in os.environ.items() if name not in KEY_NAMES}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30, env=environment
    )
    assert "practice provider playing openai" in done.stdout


@once
def test_openais_sdk_reads_what_is_said(practice: Practice) -> None:
    chat: Any = {"model": "gpt-4o", "messages": MESSAGES}
    with openai.OpenAI(base_url=f"http://{practice.address}/v1", api_key=practice.key(), max_retries=0) as client:
        answer = client.chat.completions.create(**chat)
        said = answer.choices[0].message.content
        assert "playing openai" in str(said)
        assert answer.usage is not None
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
        embedding = client.embeddings.create(model="text-embedding-3-small", input="Hello")
        assert len(embedding.data[0].embedding) == 8
        response = client.responses.create(model="gpt-4o", input="Hello")
        assert (response.status, "playing openai" in response.output_text) == ("completed", True)

        *told, last = client.chat.completions.create(**chat, stream=True, stream_options={"include_usage": True})
        assert "".join(chunk.choices[0].delta.content or "" for chunk in told) == said
        assert (told[-1].choices[0].finish_reason, last.choices) == ("stop", [])
        assert last.usage is not None
        assert last.usage.completion_tokens == len(str(said).split(" "))

        heard = list(client.responses.create(model="gpt-4o", input="Hello", stream=True))
        assert "".join(event.delta for event in heard if event.type == "response.output_text.delta")
        assert heard[-1].type == "response.completed"
        with client.responses.stream(model="gpt-4o", input="Hello") as accumulated:
            assert "playing openai" in accumulated.get_final_response().output_text
        with pytest.raises(openai.BadRequestError, match="needs a `model`"):
            client.post("/chat/completions", body={}, cast_to=object)


@once
def test_anthropics_sdk_reads_what_is_said(practice: Practice) -> None:
    message: Any = {"model": "claude-sonnet-4-6", "messages": MESSAGES}
    with anthropic.Anthropic(base_url=f"http://{practice.address}", api_key=practice.key(), max_retries=0) as client:
        answer = client.messages.create(**message, max_tokens=100)
        with client.messages.stream(**message, max_tokens=100) as stream:
            text = "".join(stream.text_stream)
            final = stream.get_final_message()
        assert isinstance(answer.content[0], anthropic.types.TextBlock)
        assert isinstance(final.content[0], anthropic.types.TextBlock)
        assert text == final.content[0].text == answer.content[0].text
        assert "practice provider playing anthropic" in text
        assert (final.stop_reason, final.usage.output_tokens) == (answer.stop_reason, answer.usage.output_tokens)
        assert client.messages.count_tokens(**message).input_tokens > 0
        with pytest.raises(anthropic.BadRequestError, match="needs a `model`"):
            client.post("/v1/messages", body={}, cast_to=object)


def test_a_choice_is_answered_by_who_is_played(practice: Practice) -> None:
    call = {"model": "auto", "messages": [{"role": "user", "content": PROMPT}]}
    headers = {"Authorization": f"Bearer {practice.key()}"}
    answer = httpx.post(f"http://{practice.address}/v1/chat/completions", json=call, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-model-router-auto-tier"] == "economy"
    played = f"playing {answer.headers['x-model-router-provider']}"
    assert played in answer.json()["choices"][0]["message"]["content"]
    assert answer.json()["model"] == answer.headers["x-model-router-model"]


def test_every_provider_without_a_key_is_played_and_named(practice: Practice) -> None:
    lines = practice.printed("Providers:").splitlines()
    played = [line.split()[0] for line in lines if "practice" in line]
    assert played == [row.id for row in PROVIDERS.values() if row.base_url or row.sited_per_org]


@once
def test_a_provider_whose_key_is_there_is_the_real_one(build: Build, tmp_path: Path) -> None:
    with practising(build, tmp_path, GROQ_API_KEY=secret("gsk_"), OPENAI_API_KEY=secret("sk-proj-")) as practice:
        lines = {line.split()[0]: line for line in practice.printed("Providers:").splitlines()}
        assert "api.groq.com" in lines["groq"]
        assert "api.openai.com" in lines["openai"]
        assert "practice" in lines["anthropic"]
        assert "the gateway holds a key" in lines["openai"]
        assert practice.key() in practice.printed("curl:")
        assert HUSH not in practice.processes.output


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_it_stops_with_everything_it_started(build: Build, tmp_path: Path, how: signal.Signals) -> None:
    with practising(build, tmp_path) as practice:
        children = children_of(practice.process)
        assert children
        assert list(tmp_path.glob("lectr-*")) != []

        practice.process.send_signal(how)
        assert practice.process.wait(STOP_WITHIN_S) == 0
        assert [pid for pid in children if Path(f"/proc/{pid}").exists()] == []
        assert list(tmp_path.glob("lectr-*")) == []
        assert "Traceback" not in practice.processes.output


def test_an_envoy_that_dies_ends_it(build: Build, tmp_path: Path) -> None:
    with practising(build, tmp_path) as practice:
        (envoy,) = children_of(practice.process)
        os.kill(envoy, signal.SIGKILL)
        assert practice.process.wait(STOP_WITHIN_S) == 1
        wait_until(lambda: "lectr: Envoy ended with code -9" in practice.processes.output, "the reason")
        assert list(tmp_path.glob("lectr-*")) == []


def test_one_that_is_killed_takes_its_envoy_along(build: Build, tmp_path: Path) -> None:
    with practising(build, tmp_path) as practice:
        (envoy,) = children_of(practice.process)
        practice.process.kill()
        wait_until(lambda: not Path(f"/proc/{envoy}/exe").exists(), "an Envoy that has ended")


def run_to_its_end(build: Build, config: Path) -> subprocess.CompletedProcess[str]:
    command = [*LECTR, "run", "--config", str(config), "--envoy-binary", str(build.binary)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=STOP_WITHIN_S)


@once
def test_a_port_in_use_is_named(build: Build, practice: Practice, providers: Providers, tmp_path: Path) -> None:
    config = tmp_path / "lectr.yaml"
    config.write_text(yaml.safe_dump({**settings_for(providers), "envoy": {"listen": practice.address}}))
    done = run_to_its_end(build, config)
    assert done.returncode == 1
    assert done.stderr.strip() == (
        f"lectr: cannot listen on {practice.address} (Address already in use): set envoy.listen to another port"
    )


@once
def test_bad_settings_are_told_all_at_once(build: Build, tmp_path: Path) -> None:
    config = tmp_path / "lectr.yaml"
    config.write_text("orgs:\n- {nmae: acme}\nenvoy: {listen: nowhere}\nproviders:\n- {id: Acme, base_url: ftp://x}\n")
    done = run_to_its_end(build, config)
    assert done.returncode == 64
    wrong = ("orgs[0].name", "orgs[0].nmae", "envoy.listen", "providers[0].id", "providers[0].base_url")
    assert [name for name in wrong if name not in done.stderr] == []
    assert "Traceback" not in done.stderr


def test_the_practice_gateway_too_refuses_strangers(practice: Practice) -> None:
    stranger = anthropic.Anthropic(base_url=f"http://{practice.address}", api_key="practice")
    with stranger, pytest.raises(anthropic.AuthenticationError, match="missing_lectr_key"):
        stranger.models.list()
