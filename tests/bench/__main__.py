"""`make bench`: the numbers we promise, measured in one run on this machine and printed as they are.

Nothing here fails on a number: machines differ, ratios within one run are what counts.
"""

from tests.bench import decide, ext_proc, ledger, pricing, telemetry, usage

for part in (decide, usage, pricing, telemetry, ledger, ext_proc):
    print((part.__doc__ or part.__name__).partition("\n")[0])
    for what, value in part.measure():
        print(f"  {what:<58} {value}")
