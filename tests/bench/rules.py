"""Rules: what they add to a decision, however many there are."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import product

from lectr_extproc.core.decision import decide
from lectr_extproc.core.facts import read_facts
from lectr_extproc.core.rules import Arm, Rule, Rules, Terms
from tests.bench.decide import HEADERS, snapshot
from tests.bench.timing import microseconds

MASKS = list(product((None, "x"), repeat=4))
"Every combination of conditions: the most tables that there can be."


def measure() -> Iterator[tuple[str, str]]:
    """A pinned call that no rule is for, and one that the last of them leaves as it is."""
    plain = snapshot()
    ((key, org),) = plain.orgs_by_key.items()
    facts = read_facts(HEADERS, {"model": "gpt-4o"}, end_of_stream=False)
    last = Rule(name="last", when=Terms(model="gpt-4o"), arms=(Arm(),))
    for count in (0, 1, 10, 1_000, 10_000):
        written = [Terms(*(value and f"{value}{i}" for value in MASKS[1 + i % 15])) for i in range(count)]
        others = tuple(Rule(name=str(i), when=when, arms=(Arm("gpt-4.1"),)) for i, when in enumerate(written))
        for what, rules in ((f"no rule of {count:,}", others), (f"the last of {count + 1:,} rules", (*others, last))):
            ruled = replace(plain, orgs_by_key={key: replace(org, rules=Rules(rules) if rules else None)})
            yield f"decide: {what} matches", f"{microseconds(partial(decide, facts, ruled), calls=1_000):6.1f} µs"
    split = Rule(name="split", arms=(Arm(), Arm("gpt-4.1", None, 2), Arm("gpt-4o-mini", None, 3)))
    yield "the part of a user, of three", f"{microseconds(lambda: split.arm('bench', 'user-1')):6.1f} µs"
