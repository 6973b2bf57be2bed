"""Which settings and prices a command goes by."""

import json
from pathlib import Path

import pytest

from lectr_extproc.cli import main
from tests.commands import FILE, Capture, explained, file_of_nothing_around, said
from tests.edge.test_prices import LIST


@pytest.fixture(autouse=True, name="file")
def _file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return file_of_nothing_around(tmp_path, monkeypatch)


def test_settings_are_where_they_are_named_then_in_the_environment_then_here(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    for name in ("here", "environment"):
        (tmp_path / f"{name}.yaml").write_text(FILE.replace("acme", name))
    assert explained(capsys)["org"] == "-"
    (tmp_path / "here.yaml").rename("lectr.yaml")
    assert explained(capsys)["org"] == "here"
    monkeypatch.setenv("LECTR_CONFIG", str(tmp_path / "environment.yaml"))
    assert explained(capsys)["org"] == "environment"
    assert explained(capsys, "--config", file)["org"] == "acme"


UNREADABLE = {"a file that is not there": None, "a file that is no text": b"\xff\xfe\x00"}


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE)
def test_settings_that_cannot_be_read_are_bad_settings(content: bytes | None, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "settings.yaml"
    if content is not None:
        path.write_bytes(content)
    assert main(["explain", "--config", str(path)]) == 64
    assert f"{path}: 1 problem\ncannot be read: " in capsys.readouterr().err


def test_price_and_models_know_the_prices_of_the_settings(tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("prices: [{provider: openai, model: gpt-4o, input: 1, output: 2}, {provider: xai, discount: 0.5}]")
    text = said(capsys, "price", "--config", file, "--model", "gpt-4o", "--input", 1_000_000, "--json")
    assert (json.loads(text)["usd"], json.loads(text)["source"]) == ("1", "settings")
    models = json.loads(said(capsys, "models", "--config", file, "--provider", "xai", "--json"))
    assert models[0]["prices"]["input"] == "1.5"


def test_price_reads_a_price_file_but_fetches_nothing(tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(f"catalogue: {{source: {tmp_path}/prices.json}}")
    asked = ["price", "--config", str(file), "--model", "gpt-4o", "--input", "1"]
    assert main(asked) == 1
    assert "FileNotFoundError" in capsys.readouterr().err
    (tmp_path / "prices.json").write_text(json.dumps(LIST))
    assert main(asked) == 0
    assert "genai-prices data " in capsys.readouterr().out
    file.write_text("catalogue: {source: 'http://192.0.2.1/prices.json'}")
    assert main(asked) == 0
    out, err = capsys.readouterr()
    assert ("genai-prices data " in out, "is not fetched here" in err) == (False, True)
