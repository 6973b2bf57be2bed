"""`python -m tests.evaluation`: the figures published for `model: auto`.

With --wrong: the conversations of the development half for which another tier was chosen than the label says.
"""

import sys

from tests.evaluation.evaluate import RULES, halves, report

if "--wrong" in sys.argv:
    for case in halves()["development"]:
        found = RULES["lectr"](case.conversation)
        if found.tier != case.label:
            text = case.conversation.messages[-1].text[:70].replace("\n", " ")
            signals = {name: value for name, value in found.signals.items() if value}
            print(f"{case.label} -> {found.tier} {found.score} {signals} | {case.why} | {text}")
else:
    print(*report(), sep="\n")
