"""One gateway per Envoy version and profile, in front of five scripted providers, for the whole run.

A test that needs other settings starts its own gateway with `launch`; the tests are told apart by `x-request-id`.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any, get_args

import anthropic
import openai
import pytest

from tests.e2e.answers import Flavour, answer_as
from tests.e2e.calls import new_id
from tests.e2e.faults import Stage, staged
from tests.e2e.gateway import BUILDS, SAID, Apart, Build, Gateway
from tests.e2e.otlp_sink import sink
from tests.e2e.provider import Loop, Provider
from tests.e2e.scene import HUSH, Providers, settings_for
from tests.e2e.sdks import anthropic_client, openai_client
from tests.postgres import Postgres

Launch = Callable[[Mapping[str, Any]], Gateway]
LaunchApart = Callable[..., Apart]

once = pytest.mark.parametrize("build", BUILDS[:1], indirect=True, ids=str)
"For what lectr does alike, whichever Envoy stands before it."

LONGEST = ["test_soak", "test_usage", "test_faults"]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest come first: the workers end together, and while the soak waits others work."""
    last = len(LONGEST)
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else last)


@pytest.fixture(scope="session", autouse=True)
def exported() -> Iterator[list[str]]:
    """What the gateways of the run export, as text: all of them do, unless their test names another back end."""
    with sink() as (url, bodies), pytest.MonkeyPatch.context() as environment:
        environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
        yield bodies


@pytest.fixture(scope="session", autouse=True)
def no_key_and_no_prompt_is_ever_printed_served_written_or_exported(exported: list[str]) -> Iterator[None]:
    """Ends last: every gateway of the run has said all it had to say. Its own lectr.yaml holds digests only."""
    yield
    leaks = [line for text in [*SAID, *exported] for line in text.splitlines() if HUSH in line]
    assert SAID
    assert leaks == []


@pytest.fixture(scope="session")
def loop() -> Iterator[Loop]:
    with Loop() as loop:
        yield loop


@pytest.fixture(scope="session")
def listening(loop: Loop) -> Iterator[Providers]:
    flavours: tuple[Flavour, ...] = get_args(Flavour)
    with ExitStack() as stack:
        yield {flavour: stack.enter_context(Provider(loop, answer_as(flavour))) for flavour in flavours}


@pytest.fixture
def providers(listening: Providers) -> Providers:
    """The five providers, with no request seen and nothing scripted."""
    for provider in listening.values():
        provider.reset()
    return listening


@pytest.fixture(scope="session", params=BUILDS, ids=str)
def build(request: pytest.FixtureRequest) -> Build:
    build: Build = request.param
    assert build.binary.exists(), f"Envoy {build.version} is expected at {build.binary}; see CONTRIBUTING.md"
    return build


@pytest.fixture(scope="session")
def shared(listening: Providers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Build], Gateway]]:
    """A gateway of smallest settings before each Envoy, that whoever asks first starts and all the others use.

    A fixture with parameters would end one whenever a test asks for the other: twice in each file.
    """
    with ExitStack() as stack:

        @cache
        def started(build: Build) -> Gateway:
            directory = tmp_path_factory.mktemp("gateway")
            return stack.enter_context(Gateway(build, settings_for(listening), directory))

        yield started


@pytest.fixture(scope="session")
def gateway(build: Build, shared: Callable[[Build], Gateway]) -> Gateway:
    """The shared gateway."""
    return shared(build)


@pytest.fixture(scope="module")
def stage(build: Build, listening: Providers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One gateway for all: each fault leaves it as it was."""
    directory = tmp_path_factory.mktemp("stage")
    with staged(build, listening, directory, f"sqlite://{directory}/ledger.db") as stage:
        yield stage


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server for all: each test has a database of its own."""
    with Postgres() as server:
        yield server


@pytest.fixture
def launch(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launch]:
    """Start a gateway of one's own; it ends with the test."""
    with ExitStack() as stack:
        yield lambda settings: stack.enter_context(Gateway(build, settings, tmp_path_factory.mktemp("gateway")))


@pytest.fixture
def launch_apart(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LaunchApart]:
    """Start lectr and Envoy apart, over a Unix socket, or TCP."""
    with ExitStack() as stack:
        yield lambda settings, over="unix": stack.enter_context(
            Apart(build, settings, tmp_path_factory.mktemp("apart"), over=over)
        )


@pytest.fixture
def tmp_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not named after the test: a socket's path is 107 characters at most, and lectr makes folders of its own in it."""
    return tmp_path_factory.mktemp("test")


@pytest.fixture
def call_id() -> str:
    """A fresh `x-request-id`, to find the call's record by."""
    return new_id()


@pytest.fixture
def client(gateway: Gateway) -> Iterator[openai.OpenAI]:
    with openai_client(gateway) as client:
        yield client


@pytest.fixture
def claude(gateway: Gateway) -> Iterator[anthropic.Anthropic]:
    with anthropic_client(gateway) as client:
        yield client
