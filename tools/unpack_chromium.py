"""Unpacks the Chromium that npm brought into a folder: the browser, the libraries it needs, and one font for all."""

import io
import shutil
import sys
import tarfile
from pathlib import Path

import brotli

FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir>{0}/fonts</dir><cachedir>{0}/fonts/cache</cachedir></fontconfig>
"""
"Those alone: pictures look the same wherever they are taken."


def unpack(directory: Path) -> None:
    """What npm brought is removed."""
    for file in (directory / "node_modules/@sparticuz/chromium/bin").iterdir():
        content = brotli.decompress(file.read_bytes())
        if file.name.endswith(".tar.br"):
            with tarfile.open(fileobj=io.BytesIO(content)) as archive:
                archive.extractall(directory, filter="data")
        else:
            binary = directory / file.stem
            binary.write_bytes(content)
            binary.chmod(0o755)
    (directory / "fonts.conf").write_text(FONTS.format(directory.resolve()))
    shutil.rmtree(directory / "node_modules")


if __name__ == "__main__":
    unpack(Path(sys.argv[1]))
