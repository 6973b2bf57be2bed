"""The project's own fixtures as answers that a scripted provider plays, and what their records have to say."""

import json
from pathlib import Path
from typing import Any

from tests.e2e.gateway import Record
from tests.e2e.provider import Answer

FIXTURES = Path(__file__).parent.parent / "fixtures"
TOLD = ("model_answered", "response_id", "finish_reasons", "service_tier")
LACKED = ("response_id", "finish_reasons", "service_tier", "error_code", "error_category", "error_source")
"What Envoy's own reading of an answer leaves out."


class Documented:
    """An answer as its vendor documents it, and what is to be read in it."""

    def __init__(self, about: Path) -> None:
        self.dialect, self.name = about.parent.name, about.name.removesuffix(".usage.json")
        self.about = json.loads(about.read_text())
        self.expected: dict[str, Any] = self.about["answer"]
        self.is_events = "event-stream" in self.about["content_type"]
        (found,) = about.parent.glob(f"{self.name}.response.*")
        self.body = found.read_bytes()

    def __str__(self) -> str:
        return f"{self.dialect}/{self.name}"

    def answer(self) -> Answer:
        """In pieces that end where they happen to, if it streams; else with its length."""
        streams = self.is_events or any(
            word in self.about["content_type"] for word in ("ndjson", "stream+json", "eventstream")
        )
        pieces = [self.body[at : at + 97] for at in range(0, len(self.body), 97)] if streams else [self.body]
        headers = [("content-type", self.about["content_type"]), *self.about.get("headers", {}).items()]
        return Answer(status=self.about["status"], headers=headers, pieces=tuple(pieces), chunked=streams)


DOCUMENTED = {str(case): case for case in map(Documented, sorted(FIXTURES.rglob("*.usage.json")))}


def read_in(record: Record) -> dict[str, object]:
    """Of a record what an answer says."""
    said = {name: record[name] for name in TOLD if name in record}
    if record["token_source"] != "none":
        said["usage"] = record["usage"]
    if "error_code" in record:
        said["error"] = record["error_code"]
    return said


def expected_in(record: Record, answer: dict[str, Any]) -> dict[str, object]:
    """The same of a fixture; counts that it lacks are estimated where text was generated."""
    said = {name: answer[name] for name in TOLD if name in answer}
    if answer["usage"] or record["token_source"] == "estimated":
        guessed = {"input_tokens", "output_tokens"} if record["token_source"] == "estimated" else set()
        usage = record.get("usage", {})
        said["usage"] = {name: usage[name] for name in guessed & usage.keys()} | (answer["usage"] or {})
    error = answer.get("error") or {}
    if code := error.get("code") or error.get("type"):
        said["error"] = code
    return said
