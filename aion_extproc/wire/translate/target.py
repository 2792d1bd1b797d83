"""What a server of either API takes, as far as servers differ: the translators ask here instead of knowing names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class ChatTarget:
    """A server of chat completions. The defaults are what the simplest ones take."""

    max_tokens: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    reasoning_effort: bool = False  # takes reasoning_effort
    # A model that refuses function tools unless reasoning is off: reasoning_effort "none" is sent with them.
    tools_need_no_reasoning: bool = False
    sampling: Literal["always", "unthinking", "never"] = "always"  # when it takes temperature and top_p
    stream_options: bool = True  # takes stream_options; one that does not counts its tokens unasked
    # The member of an assistant turn that carries earlier thinking back; "": thinking cannot be given back.
    reasoning: Literal["", "reasoning_content", "reasoning", "reasoning_details"] = ""
    cache_control: bool = False  # takes Anthropic's cache_control on content parts and tools
    files: bool = False  # takes {"type": "file"} parts, PDF among them
    image_urls: bool = True  # takes images by http(s) URL, not only as data URLs
    json_schema: bool = True  # takes response_format json_schema
    parallel_tool_calls: bool = True  # takes parallel_tool_calls
    user: bool = True  # takes user (the end user's opaque id)
    longest_tool_name: int = 64
    # Ids of tool calls: any of up to 40 characters, or nine letters and digits and no others.
    call_ids: Literal["any", "nine"] = "any"
    # Any order of roles, or Mistral's: after a tool's result only the assistant speaks, a system message follows
    # neither of the two, and a beginning of the answer says `prefix: true`.
    order: Literal["any", "mistral"] = "any"


@dataclass(frozen=True, slots=True)
class MessagesTarget:
    """A server of messages."""

    # How a model is told to think: by {"type": "adaptive"} and output_config.effort, by a budget of tokens, or not.
    thinking: Literal["adaptive", "budget", ""] = "adaptive"
    # How it is told not to; "": it cannot be told. "between_tools" is the least that such a model does.
    unthinking: Literal["disabled", "between_tools", ""] = "disabled"
    effort: bool = True  # takes output_config.effort, low to high
    xhigh: bool = False  # and the effort xhigh
    max_effort: bool = True  # and the effort max
    json_schema: bool = True  # takes output_config.format
    sampling: bool = True  # takes temperature, top_p and top_k
    image_urls: bool = True  # takes image and document sources of type url
    cache_control: bool = True
    prefill: bool = True  # goes on from a beginning of the answer: an assistant turn at the end
    forced_tools: bool = True  # takes tool_choice any and tool
    system_turns: bool = False  # takes system messages after a user turn
    checks_thinking: bool = False  # refuses thinking blocks that it has not signed
    max_tokens: int = 8192  # the answer's limit where the client sets none: messages must have one
    longest_tool_name: int = 128


@dataclass(frozen=True, slots=True)
class Translated:
    """A request in the target's format."""

    body: bytes
    # What the target cannot be told, as the client's own field names: "logprobs", "messages[].name". Sorted, each
    # once, ASCII. For X-AION-Dropped.
    dropped: tuple[str, ...] = ()
    # Tool names that had to be changed for the target: as sent on → as the client knows it.
    tool_names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    """What of the request the translator of its answer must know."""

    model: str = ""  # as sent on; for an answer that names none
    wants_usage: bool = False  # a chat stream whose client asked for the usage chunk
    tool_names: Mapping[str, str] = field(default_factory=dict)  # Translated.tool_names
    # An estimate, for message_start: chat servers count at the end, and Claude Code shows its context from the start.
    input_tokens: int = 0
    # Unlike that of any other request. What its answer has ids for is named after it: some servers count theirs from 0
    # again or draw them from a few, and Claude Code joins answers of the same id.
    request_id: str = ""
