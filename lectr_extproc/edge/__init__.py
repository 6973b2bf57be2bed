"""Everything that waits or talks."""

import os

# gRPC reads this when it is first imported, so it stands before every module that does. `lectr run` starts Envoy by
# fork and exec; gRPC's handlers for programs that go on as a fork would only warn about it.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
