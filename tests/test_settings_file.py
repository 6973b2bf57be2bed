"""What lectr.yaml may hold, and that schema, example and documents say the same."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from lectr_extproc.settings import (
    load,
)
from lectr_extproc.settings_file import SettingsFile, json_schema
from tests.test_settings import DIGEST, SMALLEST

ROOT = Path(__file__).parents[1]


def schema() -> Any:
    return json.loads((ROOT / "lectr.schema.json").read_text())


def test_the_published_schema_is_this_versions() -> None:
    assert schema() == json.loads(json.dumps(json_schema())), "write it anew: lectr schema > lectr.schema.json"


def test_the_schema_itself_is_valid_and_takes_what_we_take() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    for text in (SMALLEST, EXAMPLE, uncommented(EXAMPLE)):
        jsonschema.validate(json.loads(json.dumps(yaml.safe_load(text), default=str)), schema())


def settings_in(node: dict[str, Any], definitions: dict[str, Any], path: str = "") -> dict[str, Any]:
    """Every setting by its path, each with what the schema says of it."""
    found: dict[str, Any] = {}
    for name, value in node.get("properties", {}).items():
        found[f"{path}{name}"] = value
        for reference in re.findall(r"#/\$defs/(\w+)", json.dumps(value)):
            found |= settings_in(definitions[reference], definitions, f"{path}{name}.")
    return found


def test_every_setting_is_described() -> None:
    found = settings_in(schema(), schema()["$defs"])
    sections = {name for name in found if any(other.startswith(f"{name}.") for other in found)}
    assert [name for name, value in found.items() if name not in sections and not value.get("description")] == []


EXAMPLE = (ROOT / "lectr.example.yaml").read_text()


def uncommented(text: str) -> str:
    """Every # that stands right before a name taken away."""
    return re.sub(r"^( *)#(?=\S)", r"\1", text, flags=re.MULTILINE)


def test_the_example_is_settings_by_itself_and_changes_no_default() -> None:
    settings = load(EXAMPLE)
    assert settings.orgs == ("acme",)
    assert settings.gateway == load("").gateway
    assert settings.snapshot.sites == load("").snapshot.sites


def test_the_example_with_everything_uncommented_is_settings_too() -> None:
    settings = load(uncommented(EXAMPLE))
    assert (settings.grpc_tls, settings.gateway.lectr_tls) != (None, None)
    assert settings.snapshot.sites["openai"].upstream.authority == "eu.api.openai.com"


def test_each_section_of_the_example_can_be_uncommented_alone() -> None:
    for section in ("providers", "credentials", "prices", "catalogue", "envoy", "grpc", "admin", "limits", "log"):
        assert load(EXAMPLE.replace(f"\n#{section}:", f"\n{section}:")).gateway == load("").gateway


def written_in(value: Any, path: str = "") -> dict[str, Any]:
    """Every setting of a file by its path, without the numbers of lists."""
    if isinstance(value, list):
        return {name: found for item in value for name, found in written_in(item, path).items()}
    if not isinstance(value, dict):
        return {}
    return {
        name: found
        for key, inner in value.items()
        for name, found in {
            f"{path}{key}": inner,
            **(
                written_in(inner, f"{path}{key}.") if key not in {"credentials", "aliases"} else {}
            ),  # whose names are no settings
        }.items()
    }


def test_the_example_has_every_setting_with_its_default() -> None:
    written = written_in(yaml.safe_load(uncommented(EXAMPLE)))
    known = settings_in(schema(), schema()["$defs"])
    assert written.keys() == known.keys()
    plain = {name: value for name, value in written.items() if not isinstance(value, (dict, list))}
    differing = {
        name
        for name, value in plain.items()
        if known[name].get("default") is not None and str(value) != str(known[name]["default"])
    }
    assert differing == {"orgs.keys.label"}


PLACEHOLDERS = {
    "base_url: …": "base_url: https://x.example",
    "https://…": "https://x.example",
    "region: …": "region: eu-west-1",
    "9f86d0818…": DIGEST,
}
ELSEWHERES = re.compile(r"apiVersion:|scrape_configs:|# (?!lectr\.yaml$)")
"How a block begins that is for Kubernetes, Envoy or another service: with what it is."


def documented() -> Iterator[tuple[str, str]]:
    """Every piece of lectr.yaml in the documents, and where it is: whole blocks, and sections within a line."""
    sections = "|".join(SettingsFile.model_fields)
    for document in (ROOT / "README.md", ROOT / "envoy/README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        text = document.read_text()
        blocks = re.findall(r"^```ya?ml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        pieces = [block for block in blocks if not ELSEWHERES.match(block.partition("\n")[0])]
        pieces += re.findall(rf"`((?:{sections}): [\[{{][^`]*)`", text)
        for i, piece in enumerate(pieces):
            yield f"{document.relative_to(ROOT)} {i}", piece


@pytest.mark.parametrize("piece", [pytest.param(piece, id=name) for name, piece in documented()])
def test_what_the_documents_write_is_settings(piece: str) -> None:
    for placeholder, value in PLACEHOLDERS.items():
        piece = piece.replace(placeholder, value)
    load(piece)
