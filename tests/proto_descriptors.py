"""Prints protobuf descriptors as JSON; a program, because official stubs in a process shadow other packages.

proto_descriptors.py modules NAME ...       what these generated modules define, and all they import
proto_descriptors.py binary PATH FILE ...   what an Envoy binary carries for these .proto files, and all they import
"""

import importlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)
from google.protobuf.descriptor_pool import Default


def with_imports(names: Iterable[str], load: Callable[[str], bytes]) -> Iterator[FileDescriptorProto]:
    waiting, seen = list(names), set[str]()
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            file = FileDescriptorProto.FromString(load(name))
            waiting += [path for path in file.dependency if path.startswith(("envoy/", "lectr_extproc/"))]
            yield file


def embedded(binary: bytes, path: str) -> bytes:
    """C++ keeps each file's descriptor as one constant: its name is the first field, its syntax the last."""
    syntax = b"\x62\x06proto3"
    start = binary.index(bytes([0x0A, len(path)]) + path.encode())
    return binary[start : binary.index(syntax, start) + len(syntax)]


def flatten(
    scope: str, messages: Iterable[DescriptorProto], enums: Iterable[EnumDescriptorProto]
) -> Iterator[tuple[str, dict[str, object]]]:
    for enum in enums:
        yield f"{scope}.{enum.name}", {value.name: value.number for value in enum.value}
    for message in messages:
        fields: dict[str, object] = {
            field.name: {
                "number": field.number,
                "type": FieldDescriptorProto.Type.Name(field.type),
                "label": FieldDescriptorProto.Label.Name(field.label),
                "of": field.type_name.removeprefix("."),
                "oneof": message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else None,
            }
            for field in message.field
        }
        yield f"{scope}.{message.name}", fields
        yield from flatten(f"{scope}.{message.name}", message.nested_type, message.enum_type)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["modules", *names]:
            roots = [importlib.import_module(name).DESCRIPTOR.name for name in names]
            files = with_imports(roots, lambda path: Default().FindFileByName(path).serialized_pb)
        case ["binary", binary_path, *roots]:
            binary = Path(binary_path).read_bytes()
            files = with_imports(roots, lambda path: embedded(binary, path))
        case _:
            sys.exit(__doc__)
    flat = (flatten(file.package, file.message_type, file.enum_type) for file in files)
    json.dump(dict(chain.from_iterable(flat)), sys.stdout)
