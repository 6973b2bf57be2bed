"""`python -m tests.weeks`: the figures published for anomalies.

With --wrong: what was missed, and what was told without cause.
"""

import sys

from tests.weeks.evaluate import outcomes, report

if "--wrong" in sys.argv:
    for outcome in outcomes():
        for event in outcome.events:
            if not outcome.found(event):
                print(f"missed {event}")
        for one in outcome.told:
            if not outcome.was_injected(one):
                print(
                    f"no cause {one.kind} {one.feature} {one.began:%a %d %H} {one.first_hour - one.last_hour}"
                    f" {one.baseline:.4g} {one.observed:.4g} {one.sigmas}"
                )
else:
    print(*report(), sep="\n")
