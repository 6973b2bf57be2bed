"""What sections are made of. Most of it is told by the mistakes in tests/test_settings.py."""

import pytest

from lectr_extproc.settings_types import is_loopback


@pytest.mark.parametrize(
    "address", ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1", "LOCALHOST", "[::1]", "127.0.0.1"]
)
def test_an_address_of_this_machine_is_known(address: str) -> None:
    assert is_loopback(address)


@pytest.mark.parametrize(
    "address", ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "lectr.internal:1", "127.0.0.1.example:1", ""]
)
def test_any_other_may_be_reached_by_strangers(address: str) -> None:
    assert not is_loopback(address)
