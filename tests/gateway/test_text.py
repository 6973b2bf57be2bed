import pytest
import yaml

from lectr_extproc.gateway.text import address, fill, needs_dns, quote, seconds, without_comments


def test_a_block_takes_the_indentation_of_its_place() -> None:
    filled = fill(
        """
        outer:
          $block
        """,
        block="a: 1\nb:\n  c: 2\n",
    )
    assert filled == "outer:\n  a: 1\n  b:\n    c: 2\n"


def test_an_empty_block_leaves_no_line() -> None:
    assert fill("a: 1\n$nothing\nb: 2\n", nothing="") == "a: 1\nb: 2\n"


def test_what_is_filled_in_is_not_read_again() -> None:
    assert fill("a: $value\n", value="$other") == "a: $other\n"


def test_two_dollars_are_one() -> None:
    assert fill('regex: "x$$"\n') == 'regex: "x$"\n'


def test_a_forgotten_value_is_an_error() -> None:
    with pytest.raises(KeyError):
        fill("a: $value\n")


@pytest.mark.parametrize("value", ["yes", "1", "a: b", "# no comment", 'with "quotes"', "ends with \\", "null", "ø"])
def test_a_quoted_value_is_read_back_as_the_same_string(value: str) -> None:
    assert yaml.safe_load(f"key: {quote(value)}")["key"] == value


DURATIONS = {"whole": (900, "900s"), "half": (0.5, "0.5s"), "thousandths": (0.005, "0.005s"), "tens": (10, "10s")}


@pytest.mark.parametrize(("value", "text"), DURATIONS.values(), ids=DURATIONS.keys())
def test_durations_are_written_as_envoy_reads_them(value: float, text: str) -> None:
    assert seconds(value) == text


ADDRESSES = {
    "a name": ("lectr:9191", {"socket_address": {"address": "lectr", "port_value": 9191}}),
    "IPv4": ("127.0.0.1:80", {"socket_address": {"address": "127.0.0.1", "port_value": 80}}),
    "IPv6": ("[::1]:80", {"socket_address": {"address": "::1", "port_value": 80}}),
    "a socket": ("unix:/run/lectr.sock", {"pipe": {"path": "/run/lectr.sock"}}),
}


@pytest.mark.parametrize(("text", "expected"), ADDRESSES.values(), ids=ADDRESSES.keys())
def test_addresses_become_envoys(text: str, expected: object) -> None:
    assert yaml.safe_load(address(text)) == expected


def test_only_names_need_dns() -> None:
    assert [needs_dns(host) for host in ("lectr", "127.0.0.1", "::1", "[::1]")] == [True, False, False, False]


def test_without_comments_the_yaml_says_the_same() -> None:
    text = "# why\na: 1  # because\nb:\n  # more\n  c: x#y\n"
    assert without_comments(text) == "a: 1\nb:\n  c: x#y\n"
