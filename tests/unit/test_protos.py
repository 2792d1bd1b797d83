"""Our few Envoy messages against Envoy's own: a wrong field number would read as an absent field, without an error."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.data.accesslog import v3 as log_data
from envoy_data_plane.envoy.extensions.filters.http.ext_proc import v3 as ext_proc_filter
from envoy_data_plane.envoy.service.accesslog import v3 as log_service
from envoy_data_plane.envoy.service.ext_proc import v3 as ext_proc
from envoy_data_plane.envoy.type import v3 as envoy_type
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from aion_extproc.extproc import envoy_pb2 as pb

ROOT = Path(__file__).parents[2]
PACKAGE = "aion.envoy."
THEIRS = (core, ext_proc, ext_proc_filter, log_service, log_data, envoy_type)
# Not in envoy-data-plane 2.2: envoy.data.ai.v3.TokenUsage of Envoy 1.40, from its .proto. That the real Envoy sends
# it so is tested in tests/gateway/test_routing.py.
NUMBERS = {
    "TokenUsage": {
        "model": 2,
        "input_tokens": 3,
        "output_tokens": 4,
        "input_token_details": 6,
        "output_token_details": 7,
        "extraction_status": 9,
    },
    "TokenUsage.InputTokenDetails": {"cached_tokens": 1, "cache_creation_tokens": 2},
    "TokenUsage.OutputTokenDetails": {"reasoning_tokens": 1},
}
# An enum on their side: its values are the numbers, and the bytes are the same.
WRITTEN_OTHERWISE = {"HttpStatus.code": ("enum", "int32")}


def every_message(messages: Iterable[Descriptor]) -> Iterator[Descriptor]:
    for message in messages:
        if not message.GetOptions().map_entry:
            yield message
            yield from every_message(message.nested_types)


MESSAGES = {
    message.full_name.removeprefix(PACKAGE): message
    for message in every_message(pb.DESCRIPTOR.message_types_by_name.values())
}


def theirs(name: str) -> Any:
    """The class of envoy-data-plane that a message of ours is named after, nested names run together."""
    wanted = name.replace(".", "").lower()
    found = [getattr(module, known) for module in THEIRS for known in dir(module) if known.lower() == wanted]
    assert len(found) == 1, f"{name}: {found}"
    return found[0]


def kind(field: FieldDescriptor) -> str:
    """The protobuf type, as envoy-data-plane writes it."""
    message = field.message_type
    if message is not None and message.GetOptions().map_entry:
        return "map"
    names = {
        FieldDescriptor.TYPE_STRING: "string",
        FieldDescriptor.TYPE_BYTES: "bytes",
        FieldDescriptor.TYPE_BOOL: "bool",
        FieldDescriptor.TYPE_INT32: "int32",
        FieldDescriptor.TYPE_UINT32: "uint32",
        FieldDescriptor.TYPE_UINT64: "uint64",
        FieldDescriptor.TYPE_ENUM: "enum",
        FieldDescriptor.TYPE_MESSAGE: "message",
    }
    return names[field.type]


@pytest.mark.parametrize("name", sorted(MESSAGES.keys() - NUMBERS.keys()))
def test_fields_are_envoys(name: str) -> None:
    known = {field.name: field.metadata["betterproto"] for field in dataclasses.fields(theirs(name))}
    for field in MESSAGES[name].fields:
        path = f"{name}.{field.name}"
        assert field.name in known, f"{path} is unknown to Envoy"
        metadata = known[field.name]
        assert field.number == metadata.number, path
        assert (metadata.proto_type, kind(field)) == WRITTEN_OTHERWISE.get(path, (kind(field),) * 2), path
        repeated = field.is_repeated and kind(field) != "map"
        assert repeated == metadata.repeated, path
        # Written the same either way; but a oneof of ours that is none of theirs would drop fields.
        assert not field.containing_oneof or metadata.group, path


@pytest.mark.parametrize("name", NUMBERS)
def test_fields_that_envoy_data_plane_does_not_have(name: str) -> None:
    assert {field.name: field.number for field in MESSAGES[name].fields} == NUMBERS[name]


def test_enum_values_are_envoys() -> None:
    checked = 0
    for name, message in MESSAGES.items():
        for enum in message.enum_types:
            other: type[Enum] = theirs(f"{name}.{enum.name}")
            numbers = {member.name: member.value for member in other}
            for value in enum.values:
                assert numbers[value.name] == value.number, f"{name}.{value.name}"
                checked += 1
    assert checked > 10


def test_the_compiled_messages_are_those_of_the_proto_file(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", _GENERATE, str(tmp_path)], cwd=ROOT / "protos", check=True)
    folder = Path("aion_extproc/extproc")
    made = sorted(path.name for path in (tmp_path / folder).iterdir())
    assert made == ["envoy_pb2.py", "envoy_pb2.pyi"]
    for name in made:
        checked_in = (ROOT / folder / name).read_text()
        assert _without_version(checked_in) == _without_version((tmp_path / folder / name).read_text()), "make protos"


_GENERATE = "import sys, pathlib, generate; generate.generate(pathlib.Path(sys.argv[1]))"


def _without_version(generated: str) -> str:
    """Without the two places where the compiler writes its own version."""
    generated = re.sub(r"# Protobuf Python Version: .*", "", generated)
    return re.sub(r"(_runtime_version\.Domain\.PUBLIC),\s*\d+,\s*\d+,\s*\d+,", r"\1,", generated)
