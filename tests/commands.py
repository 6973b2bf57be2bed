"""Commands as people type them, in a folder with nothing around."""

import json
from pathlib import Path
from typing import Any

import pytest

from lectr_extproc import status
from lectr_extproc.cli import main
from lectr_extproc.settings import Settings

Capture = pytest.CaptureFixture[str]

KEY_DIGEST = "ab" * 32
FILE = f"""
orgs:
- name: acme
  keys: [{{sha256: {KEY_DIGEST}}}]
- name: azurite
  keys: [{{sha256: {"cd" * 32}}}]
  azure: {{endpoint: https://az.openai.azure.com}}
"""
HELD = """
credentials: {openai: env:NOT_THERE, groq: file:/not/there}
orgs:
- {name: acme, keys: [{sha256: KEY}], credentials: {groq: env:NOT_THERE_EITHER}}
providers: [{id: bedrock, sign: true}]
""".replace("KEY", KEY_DIGEST)
RULED = f"""
orgs:
- name: acme
  keys: [{{sha256: {KEY_DIGEST}}}]
  credentials: {{groq: env:GROQ}}
  rules:
  - {{name: asleep, enabled: false, then: {{model: gpt-4.1}}}}
  - {{name: for-search, when: {{feature: search}}, then: {{provider: groq}}, priority: 1}}
  - {{name: canary, when: {{model: gpt-4o}}, split: [{{weight: 9}}, {{weight: 1, model: gpt-4.1}}], sticky: X-User}}
  - {{name: late, when: {{model: gpt-4o, task: extraction}}, then: {{model: gpt-4.1}}}}
"""


def file_of_nothing_around(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Settings under a name to be told; no lectr.yaml here, none in the environment, and no lectr that runs."""
    monkeypatch.chdir(directory)
    for name in ("LECTR_CONFIG", "LECTR_ENVOY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(status, "ask", _nobody)
    file = directory / "acme.yaml"
    file.write_text(FILE)
    return file


def _nobody(_: Settings) -> dict[str, Any]:
    raise status.StatusError("no lectr answers")


def said(capsys: Capture, *arguments: object, code: int = 0) -> str:
    """What a command that ends as expected writes to standard output."""
    assert main([str(argument) for argument in arguments]) == code
    return capsys.readouterr().out


def explained(capsys: Capture, *arguments: object) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(said(capsys, "explain", "--json", *arguments))
    return answer
