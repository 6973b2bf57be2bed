"""Demands that each module has its own test file: lectr_extproc/core/detect.py has tests/core/test_detect.py."""

import sys
from collections.abc import Iterator
from pathlib import Path

GENERATED = "pb"
UNTESTED = ("__init__.py", "__main__.py")
"They only re-export and only call main(); whoever finds more in one of them moves it to a module."

EXCEPTIONS: dict[str, str] = {}
"Modules that another test covers, with the reason. One that is no longer needed is a mistake too."


def mistakes(package: Path, tests: Path) -> Iterator[str]:
    """What is missing, one line each."""
    modules = {module.relative_to(package) for module in package.rglob("*.py") if module.name not in UNTESTED}
    for module in sorted(modules):
        if module.parts[0] == GENERATED:
            continue
        mirror = tests / module.parent / f"test_{module.name}"
        excepted = str(module) in EXCEPTIONS
        if not mirror.exists() and not excepted:
            yield f"{package / module} has no {mirror}"
        if mirror.exists() and excepted:
            yield f"{package / module} has {mirror}: take it out of EXCEPTIONS"
    for name in EXCEPTIONS.keys() - set(map(str, modules)):
        yield f"{package / name} is gone: take it out of EXCEPTIONS"


if __name__ == "__main__":
    found = list(mistakes(Path("lectr_extproc"), Path("tests")))
    print("\n".join(found) or "each module has its test file")
    sys.exit(bool(found))
