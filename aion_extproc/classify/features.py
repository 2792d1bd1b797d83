"""The part of a conversation that the classifier reads: the user's last words, cut to a bounded excerpt.

Everything here is linear in the text with a small constant (one C-speed search), and copies a bounded part of it:
a prompt of a megabyte must not cost a millisecond.
"""

from __future__ import annotations

from collections.abc import Sequence

from aion_extproc.wire.conversation import Conversation, Turn

CHARS_PER_TOKEN = 4
REMINDER_OPEN = "<system-reminder>"
REMINDER_CLOSE = "</system-reminder>"
EDGE = 8_000  # characters at either end of a long text in which reminders are looked for
EXCERPT_HEAD = 400  # an instruction stands before or after what it is about, rarely in its middle
EXCERPT_TAIL = 400
MAX_BLOCKS = 64  # reminder blocks skipped at the front of one long text
MAX_PARTS = 64  # text parts read from either end of one turn


def excerpt(text: str, head: int = EXCERPT_HEAD, tail: int = EXCERPT_TAIL) -> str:
    """`text` itself if it has at most `head + tail` characters, else its two ends on lines of their own."""
    if len(text) <= head + tail:
        return text
    return f"{text[:head]}\n{text[-tail:]}"


def strip_reminders(text: str) -> str:
    """`text` with each `<system-reminder>…</system-reminder>` replaced by a space.

    A block runs from its tag to the first closing tag; without one, to the end. Blocks do not nest, and a closing
    tag outside a block is plain text. Linear: one split and one partition of each piece.
    """
    if REMINDER_OPEN not in text:
        return text
    before, *blocks = text.split(REMINDER_OPEN)
    return " ".join([before, *(block.partition(REMINDER_CLOSE)[2] for block in blocks)])


def visible(text: str) -> str:
    """What a user wrote in one text part: `strip_reminders`, for a long text of its two ends only.

    Of a text longer than 2 × EDGE, about EDGE visible characters of either end. Blocks of any length that touch them
    are found; only one that opens further in and never closes goes unnoticed.
    """
    size = len(text)
    if size <= 2 * EDGE:
        return strip_reminders(text)
    head, start = _visible_head(text)
    tail_start = max(start, size - EDGE)
    tail = text[tail_start:]
    close = tail.find(REMINDER_CLOSE)
    if close >= 0 and REMINDER_OPEN not in tail[:close]:  # perhaps of a block that opens before the tail
        opened = text.rfind(REMINDER_OPEN, start, tail_start + len(REMINDER_OPEN))
        if opened >= 0 and text.find(REMINDER_CLOSE, opened, tail_start + close) < 0:
            tail = f"{text[max(start, opened - EDGE) : opened]} {tail[close + len(REMINDER_CLOSE) :]}"
    return f"{head}\n{strip_reminders(tail)}"


def _visible_head(text: str) -> tuple[str, int]:
    """At most EDGE visible characters from the front, and where the reading ended."""
    pieces: list[str] = []
    start, wanted = 0, EDGE
    for _ in range(MAX_BLOCKS):
        opened = text.find(REMINDER_OPEN, start, start + wanted + len(REMINDER_OPEN))
        if opened < 0:
            pieces.append(text[start : start + wanted])
            return " ".join(pieces), start + wanted
        pieces.append(text[start:opened])
        wanted -= opened - start
        close = text.find(REMINDER_CLOSE, opened)
        if close < 0:
            return " ".join(pieces), len(text)
        start = close + len(REMINDER_CLOSE)
    return " ".join(pieces), start


def turn_text(texts: Sequence[str]) -> str:
    """The visible text of one turn's parts, at most 2 × EDGE characters of each, blank parts left out.

    A turn of more than 2 × MAX_PARTS parts is read at its ends.
    """
    if len(texts) == 1:
        return visible(texts[0])
    if len(texts) > 2 * MAX_PARTS:
        texts = (*texts[:MAX_PARTS], *texts[-MAX_PARTS:])
    shown = (visible(part) for part in texts)
    return "\n".join(part for part in shown if part and not part.isspace())


def last_user_turn(turns: Sequence[Turn]) -> tuple[int, str]:
    """Index and visible text of the last user turn that has any, or (-1, "").

    Turns that carry only tool results or reminders are passed over.
    """
    for index in range(len(turns) - 1, -1, -1):
        turn = turns[index]
        if turn.role == "user" and turn.texts:
            text = turn_text(turn.texts)
            if text and not text.isspace():
                return index, text
    return -1, ""


def volume(conversation: Conversation, limit: int) -> int:
    """Characters of the turns, system text aside, tool results included; counting stops once past `limit`.

    A text part that is one reminder block, as Claude Code sends them, is scaffolding and not counted.
    """
    total = 0
    for turn in conversation.turns:
        if turn.role == "system":
            continue
        total += turn.tool_result_chars
        for part in turn.texts:
            if not (part.startswith(REMINDER_OPEN) and _ends_first_reminder(part)):
                total += len(part)
        if total >= limit:
            break
    return total


def _ends_first_reminder(part: str) -> bool:
    """Whether nothing but white space follows the first closing tag."""
    close = part.find(REMINDER_CLOSE)
    rest = close + len(REMINDER_CLOSE)
    return close >= 0 and (rest == len(part) or part[rest : rest + EDGE].isspace())
