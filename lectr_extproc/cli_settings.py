"""What commands have in common: the settings they go by, the prices that hold there, and how they print."""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from lectr_extproc.catalog.prices import price_table
from lectr_extproc.core.pricing import PriceTable
from lectr_extproc.edge.prices import is_url, read_prices
from lectr_extproc.settings import ConfigError, Settings, load

EXIT_FAILED = 1


def file_of(chosen: argparse.Namespace, *, required: bool = False) -> Path | None:
    """--config, else LECTR_CONFIG, else ./lectr.yaml if there is one."""
    named = chosen.config or os.environ.get("LECTR_CONFIG")
    if named:
        return Path(named)
    here = Path("lectr.yaml")
    if here.exists():
        return here
    if required:
        raise ConfigError(
            "lectr serve", ["no settings: name a file with --config or LECTR_CONFIG, or write lectr.yaml"]
        )
    return None


def read(file: Path | None, read_reference: Callable[[str], str] = str) -> Settings:
    if file is None:
        return load("{}", "the default settings")
    try:
        return load(file.read_text(), str(file), read_reference=read_reference)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(file), [f"cannot be read: {error}"]) from None


def price_table_of(settings: Settings) -> PriceTable:
    source = settings.catalogue.source
    if source is None:
        return settings.snapshot.prices
    if is_url(source):
        print("lectr: catalogue.source is not fetched here; these prices came with lectr", file=sys.stderr)
        return settings.snapshot.prices
    return price_table(settings.prices, *asyncio.run(read_prices(source)), rows=settings.snapshot.providers)


def to_json(answer: object) -> str:
    """Money and dates are texts in it: a float would round the one, and there is no other for the other."""
    return json.dumps(answer, indent=2, default=str)
