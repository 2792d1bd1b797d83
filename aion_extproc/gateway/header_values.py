"""Headers that Envoy itself fills in from what the exchanges left in the metadata."""

from __future__ import annotations

from envoy_data_plane.envoy.config.common.mutation_rules import v3 as mutation
from envoy_data_plane.envoy.config.core import v3 as core

from aion_extproc.gateway.spec import NAMESPACE


def set_header(name: str, value: str, *, only_if_absent: bool = False) -> mutation.HeaderMutation:
    actions = core.HeaderValueOptionHeaderAppendAction
    action = actions.ADD_IF_ABSENT if only_if_absent else actions.OVERWRITE_IF_EXISTS_OR_ADD
    option = core.HeaderValueOption(header=core.HeaderValue(key=name, value=value), append_action=action)
    return mutation.HeaderMutation(append=option)


def content_length() -> mutation.HeaderMutation:
    """Of the rewritten body: a body that was streamed through an exchange has none."""
    return set_header("content-length", f"%DYNAMIC_METADATA({NAMESPACE}:content_length)%")
