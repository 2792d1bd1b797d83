"""Packing of Envoy's extension messages into `typed_config`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any as AnyValue

import betterproto2
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.google.protobuf import Any, Struct
from envoy_data_plane.message_pool import default_message_pool

MEBIBYTE = 1 << 20


@dataclass(eq=False, repr=False)
class TypedStruct(betterproto2.Message):
    """xds.type.v3.TypedStruct, which envoy-data-plane lacks: an extension's fields without its compiled type."""

    type_url: str = betterproto2.field(1, betterproto2.TYPE_STRING)
    value: Struct | None = betterproto2.field(2, betterproto2.TYPE_MESSAGE, optional=True)  # noqa: RUF009


default_message_pool.register_message("xds.type.v3", "TypedStruct", TypedStruct)


def pack(message: betterproto2.Message) -> Any:
    """An extension's configuration as the Any that Envoy wants."""
    return Any.pack(message, message_pool=default_message_pool)


def pack_fields(type_name: str, fields: Mapping[str, AnyValue]) -> Any:
    """The same for an extension that envoy-data-plane has no (or an empty) type for; Envoy checks the fields."""
    value = Struct.from_dict(dict(fields))
    return pack(TypedStruct(type_url=f"type.googleapis.com/{type_name}", value=value))


def seconds(value: float) -> timedelta:
    return timedelta(seconds=value)


def tcp(host: str, port: int) -> core.Address:
    return core.Address(socket_address=core.SocketAddress(address=host, port_value=port))


def pipe(path: object) -> core.Address:
    return core.Address(pipe=core.Pipe(path=str(path)))


def config_source(path: object) -> core.ConfigSource:
    """A file that Envoy reads, and again whenever another one takes its name."""
    source = core.PathConfigSource(path=str(path))
    return core.ConfigSource(path_config_source=source, resource_api_version=core.ApiVersion.V3)
