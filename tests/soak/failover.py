"""Calls whose candidates fail in every way there is: each provider checks that it never gets what is another's."""

import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import get_args

from tests.e2e.answers import Flavour, answer_as
from tests.e2e.candidates import assert_each_got_its_own, fail_at_random, failing_over
from tests.e2e.gateway import BUILDS, Gateway
from tests.e2e.provider import Loop, Provider

AT_ONCE = 500
"Calls between two looks at what the providers got."


def failover(directory: Path, calls: int, version: str) -> bool:
    """Whether no host, path, key or model of one provider ever reached another, and every call had an answer."""
    build = next(build for build in BUILDS if build.version == version)
    keys = directory / "keys"
    keys.mkdir()
    flavours: tuple[Flavour, ...] = get_args(Flavour)
    statuses: Counter[int] = Counter()
    attempts, began = 0, time.monotonic()
    with ExitStack() as stack:
        loop = stack.enter_context(Loop())
        providers = {one: stack.enter_context(Provider(loop, answer_as(one))) for one in flavours}
        gateway = stack.enter_context(Gateway(build, failing_over(providers, keys), directory))
        for seed in range(-(-calls // AT_ONCE)):
            statuses.update(fail_at_random(gateway, providers, calls=AT_ONCE, seed=seed))
            assert_each_got_its_own(providers)
            attempts += sum(len(provider.requests) for provider in providers.values())
            for provider in providers.values():
                provider.reset()
    answered = sum(statuses.values())
    print(f"{build}: {answered} calls in {time.monotonic() - began:.0f} s: {dict(sorted(statuses.items()))}")
    print(f"{attempts} attempts, {attempts - statuses[200]} of them failed; none got anything of another provider's")
    return answered >= calls and statuses[200] > answered / 2
