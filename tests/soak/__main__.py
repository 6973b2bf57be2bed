"""What holds for hours and in crowds, tried by hand: `python -m tests.soak inflight`, `run`, `stream`, `restarts`
or `failover`.

Each prints what it saw, ends with what was sent, answered and recorded, and fails if a promise did not hold.
"""

import argparse
import resource
import sys
import tempfile
from pathlib import Path

from tests.e2e.gateway import BUILDS
from tests.soak import failover, inflight, restarts, run, stream

parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
commands = parser.add_subparsers(dest="command", required=True)
crowd = commands.add_parser("inflight", help="many slow calls at a time through one lectr")
crowd.add_argument("--calls", type=int, default=10_000)
crowd.add_argument("--read", action="store_true", help="lectr reads the answers, which Envoy can read too")
steady = commands.add_parser("run", help="a steady load, with a fault now and then")
steady.add_argument("--minutes", type=float, default=30)
steady.add_argument("--rate", type=float, default=50, help="calls a second")
steady.add_argument("--fault-every", type=float, default=60, help="seconds from the end of a fault to the next")
long = commands.add_parser("stream", help="streams with pauses, as long as that")
long.add_argument("--minutes", type=float, default=60)
long.add_argument("--pause", type=float, default=20, help="seconds from one chunk to the next")
lossy = commands.add_parser("restarts", help="restarts and kills under traffic, and the records that each costs")
lossy.add_argument("names", nargs="*", default=list(restarts.RESTARTS), help="of those: all")
lossy.add_argument("--times", type=int, default=1, help="how often each happens")
failing = commands.add_parser("failover", help="candidates that fail at random, and what each of them is sent")
failing.add_argument("--calls", type=int, default=5000)
failing.add_argument("--envoy", choices=[build.version for build in BUILDS], default=BUILDS[0].version)
commands.add_parser("provider", help="what `inflight` calls, in a process of its own")
arguments = parser.parse_args()

hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
if arguments.command == "provider":
    inflight.provide()
    sys.exit()
with tempfile.TemporaryDirectory(prefix="soak-") as directory:
    if arguments.command == "inflight":
        holds = inflight.crowd(Path(directory), arguments.calls, is_read=arguments.read).holds
    elif arguments.command == "stream":
        holds = stream.stream(Path(directory), arguments.minutes, arguments.pause)
    elif arguments.command == "failover":
        holds = failover.failover(Path(directory), arguments.calls, arguments.envoy)
    elif arguments.command == "restarts":
        holds = restarts.restarts(arguments.names, arguments.times)
    else:
        holds = run.soak(Path(directory), arguments.minutes, arguments.rate, arguments.fault_every)
print("held" if holds else "NOT HELD")
sys.exit(not holds)
