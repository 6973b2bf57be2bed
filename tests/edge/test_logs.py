"""What lectr writes: one JSON object per line, and no secret in any."""

import asyncio
import dataclasses
import io
import json
import logging
from collections.abc import Iterator
from itertools import pairwise
from select import PIPE_BUF
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lectr_extproc.catalog.providers import PROVIDERS
from lectr_extproc.core.record import CallRecord, LogEntry
from lectr_extproc.edge.logs import JsonLines, as_fields, log_calls, pieces, set_up
from tests.core.given import recorded
from tests.core.test_ledger import any_of
from tests.edge.given import KEY

SHAPES = [shape for row in PROVIDERS.values() for shape in (*row.key_shapes, *row.stays_bearer)]
SECRETS = {"an org's key": KEY, **{f"a key like {shape}": f"{shape}0123.456789abc-_DEF" for shape in SHAPES}}


@pytest.fixture(autouse=True)
def loggers() -> Iterator[None]:
    """Logging is the process's: leave it as it was."""
    root, ours = logging.getLogger(), logging.getLogger("lectr")
    before = (root.handlers[:], root.level, ours.level, logging.raiseExceptions)
    yield
    root.handlers[:], logging.raiseExceptions = before[0], before[3]
    root.setLevel(before[1])
    ours.setLevel(before[2])


def line(message: str, *args: object, error: BaseException | None = None, **fields: object) -> str:
    record = logging.LogRecord("lectr.test", logging.INFO, __file__, 1, message, args, None)
    record.fields = fields
    if error is not None:
        record.exc_info = (type(error), error, error.__traceback__)
    return JsonLines().format(record)


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:  # noqa: BLE001
        return caught


# --- lines ------------------------------------------------------------------------------------------------------------


def test_a_line_says_when_how_grave_and_what() -> None:
    read = json.loads(line("settings adopted", orgs=0, added=["a"]))
    time = read.pop("time")
    assert read == {"level": "info", "event": "settings adopted", "orgs": 0, "added": ["a"]}
    assert time.endswith("+00:00")


def test_an_exception_is_told_by_its_kind_and_place_alone() -> None:
    read = json.loads(line("failed", error=raised(ValueError("what a client sent"))))
    assert read["error"] == "ValueError"
    assert read["at"] == [f"test_logs.py:{raised.__code__.co_firstlineno + 2}"]
    assert "what a client sent" not in str(read)


def test_a_line_logged_where_nothing_is_being_handled_has_no_error() -> None:
    record = logging.LogRecord("lectr", logging.INFO, __file__, 1, "x", (), (None, None, None))
    assert "error" not in json.loads(JsonLines().format(record))


@pytest.mark.parametrize("value", [2**70, -(2**70), "\ud800", {1, 2}, b"\xff", object, float("nan")], ids=repr)
def test_whatever_a_field_is_the_line_is_one_line_of_json(value: object) -> None:
    text = line("event", odd=value)
    assert "odd" in json.loads(text)
    assert "\n" not in text


@given(st.text(), st.dictionaries(st.text(), st.text()))
def test_whatever_the_text_the_line_is_one_line_of_json(message: str, field: dict[str, str]) -> None:
    text = line("%s", message, field=field)
    assert "\n" not in text
    assert json.loads(text)["event"] == message.partition("\n")[0]


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
def test_a_key_is_not_printed_wherever_it_stands(secret: str) -> None:
    for before in ("", " ", "Bearer ", "\t", "'", "key=", "\n"):
        text = before + secret
        try:
            raise ValueError(text) from RuntimeError(text)
        except ValueError as error:
            written = [
                line(text),
                line("%s failed", text),
                line("failed", error=error),
                line("failed", feature=text, deep={"notes": [text]}, object=ValueError(text)),
            ]
        for one in written:
            json.loads(one)
            assert secret not in one


@given(st.text(alphabet="abcXYZ019_-", min_size=16, max_size=60), st.text(), st.text())
def test_an_org_key_is_not_printed_whatever_stands_around_it(rest: str, before: str, after: str) -> None:
    key = f"lc_key_{rest}"
    assert key not in line(f"{before}{key}{after}", feature=f"{before}{key}{after}")


@pytest.mark.parametrize(
    "word", ["task-classification-of-documents", "gpt-4o-mini-2024-07-18", "sk-short", "asfw_0123456789abcdef"]
)
def test_what_is_no_key_is_printed(word: str) -> None:
    assert json.loads(line("call", feature=word))["feature"] == word


async def test_a_forgotten_task_that_failed_tells_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    set_up("info")
    loop = asyncio.get_running_loop()
    error = raised(ValueError("the prompt of a client"))
    loop.default_exception_handler({"message": "Task exception was never retrieved", "exception": error, "task": error})
    read = json.loads(capsys.readouterr().err)
    assert (read["event"], read["error"]) == ("Task exception was never retrieved", "ValueError")
    assert "prompt" not in str(read)


def test_a_line_that_cannot_be_formatted_is_not_printed_with_its_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    set_up("info")
    logging.getLogger("lectr.test").info("%d calls", "the prompt of a client")  # noqa: PLE1206, RUF100
    assert "prompt" not in capsys.readouterr().err


def test_our_level_is_ours_alone(capsys: pytest.CaptureFixture[str]) -> None:
    set_up("debug")
    logging.getLogger("httpx").info("GET http://host/?key=secret")
    logging.getLogger("lectr.settings").debug("ours")
    logging.getLogger("httpx").warning("theirs")
    events = [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()]
    assert events == ["ours", "theirs"]
    set_up("error")
    logging.getLogger("lectr.settings").warning("below")
    assert capsys.readouterr() == ("", "")


# --- calls ------------------------------------------------------------------------------------------------------------


def entry(**values: Any) -> LogEntry:
    return LogEntry(start_ns=1, **values)


def lines_of(*records: CallRecord) -> list[dict[str, Any]]:
    with mock.patch("sys.stderr", io.StringIO()) as written:
        set_up("info")
        log_calls(records)
    return [json.loads(line) for line in written.getvalue().split("\n") if line]


def test_each_finished_call_is_one_line() -> None:
    ids = [str(number) for number in range(100)]
    read = lines_of(*[recorded(entry(decision={"call_id": id_})) for id_ in ids])
    assert [(line["event"], line["call_id"]) for line in read] == [("call", id_) for id_ in ids]


@given(st.lists(any_of(CallRecord), max_size=2))
def test_a_line_has_all_that_is_known_of_its_call(records: list[CallRecord]) -> None:
    known = [json.loads(json.dumps(as_fields(record), default=dataclasses.asdict)) for record in records]
    lines = lines_of(*records)
    assert [
        {name: value for name, value in line.items() if name not in {"time", "level", "event"}} for line in lines
    ] == known


@pytest.mark.parametrize("lines", [[10], [3000, 1000, 94, 1, 5000, 4094, 2], [1000] * 20, [1] * 5000], ids=str)
def test_as_many_lines_are_written_at_once_as_a_pipe_takes_whole(lines: list[int]) -> None:
    text = "".join("é" * (length // 2) + "x" * (length % 2) + "\n" for length in lines)
    written = list(pieces(text))
    assert "".join(written) == text
    assert all(piece.endswith("\n") for piece in written)
    assert all(len(piece.encode()) <= PIPE_BUF or piece.count("\n") == 1 for piece in written)
    assert all(len((a + b).encode()) > PIPE_BUF for a, b in pairwise(written))


def test_a_key_among_several_calls_is_not_printed_and_costs_no_other_line(capsys: pytest.CaptureFixture[str]) -> None:
    set_up("info")
    log_calls([recorded(entry(decision={"call_id": id_, "feature": KEY})) for id_ in ("a", "b")])
    assert [json.loads(line)["feature"] for line in capsys.readouterr().err.splitlines()] == ["lc_key_…"] * 2


def test_calls_are_no_lines_where_only_warnings_are(capsys: pytest.CaptureFixture[str]) -> None:
    set_up("warning")
    log_calls([recorded(entry())])
    assert capsys.readouterr().err == ""


def test_what_is_absent_is_left_out_and_what_is_zero_is_kept() -> None:
    fields = as_fields(recorded(entry(duration_ns=0, attempts=0, request_bytes=0)))
    assert (fields["duration_ms"], fields["attempts"], fields["request_bytes"]) == (0.0, 0, 0)
    assert (
        not {"org", "status", "notes", "streaming", "provider_unknown", "error_code", "first_byte_ms"} & fields.keys()
    )


def test_a_line_says_why_a_cost_is_absent_or_not_quite_exact() -> None:
    decision = {"routed": "1", "provider": "openai", "dialect": "openai.chat", "sent": "mystery"}
    fields = as_fields(recorded(entry(decision=decision)))
    assert (fields["pricing_status"], fields["pricing_reason"]) == ("unavailable", "no price for this model")
    assert "cost" not in fields


def test_what_is_true_or_listed_is_kept() -> None:
    decision = {"stream": "1", "unknown": "1", "notes": "a,b", "org": "acme"}
    fields = as_fields(recorded(entry(decision=decision)))
    assert (fields["streaming"], fields["provider_unknown"], fields["notes"]) == (True, True, ("a", "b"))
