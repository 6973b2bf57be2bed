import pytest

from lectr_extproc.gateway import GatewayOptions
from lectr_extproc.gateway.options import worker_address


def test_by_default_nothing_is_reached_from_another_machine() -> None:
    options = GatewayOptions()
    assert {address.rpartition(":")[0] for address in (options.listen, options.admin, options.lectr)} == {"127.0.0.1"}


@pytest.mark.parametrize(
    ("first", "second"),
    [("127.0.0.1:9191", "127.0.0.1:9192"), ("[::1]:9191", "[::1]:9192"), ("unix:/run/l.sock", "unix:/run/l.sock.1")],
)
def test_the_second_worker_is_beside_the_first(first: str, second: str) -> None:
    assert [worker_address(first, worker) for worker in (0, 1)] == [first, second]
