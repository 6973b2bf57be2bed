from lectr_extproc.gateway import GatewayOptions


def test_by_default_nothing_is_reached_from_another_machine() -> None:
    options = GatewayOptions()
    assert {address.rpartition(":")[0] for address in (options.listen, options.admin, options.lectr)} == {"127.0.0.1"}
