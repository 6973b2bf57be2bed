"""`python -m tests.evaluation`: the figures published for `model: auto`.

With --wrong: the conversations of the development half for which another tier was chosen than the label says.
"""

import sys

from tests.evaluation.evaluate import RULES, TIERS, halves, results, saved

if "--wrong" in sys.argv:
    for case in halves()["development"]:
        found = RULES["lectr"](case.conversation)
        if found.tier != case.label:
            text = case.conversation.messages[-1].text[:70].replace("\n", " ")
            signals = {name: value for name, value in found.signals.items() if value}
            print(f"{case.label} -> {found.tier} {found.score} {signals} | {case.why} | {text}")
    sys.exit()

for half, some in halves().items():
    print(f"{half}: {len(some)} conversations")
    for where, name, result in results():
        if where == half:
            print(
                f"  {name:<16} right {result.accuracy:6.1%}   premium without need {result.false_premium:6.1%}"
                f"   too low {result.too_low:6.1%}   saved {saved(result, some):6.1%}"
            )
    [lectr] = [result for where, name, result in results() if (where, name) == (half, "lectr")]
    print(f"  {'lectr, by label':<16} " + " ".join(f"{tier:>9}" for tier in TIERS))
    for label in TIERS:
        print(f"  {label:<16} " + " ".join(f"{lectr.confusion[label, tier]:>9}" for tier in TIERS))
