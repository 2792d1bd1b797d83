"""Text to terms: how a prompt is cut into words for the intent model, and for every rule about words.

scikit-learn trains with the same `fold` and `TOKEN` (`training/train.py`), so that a term means the same thing at
training and at run time.
"""

from __future__ import annotations

import re

STEM = 6  # letters of a word that count: "refactoring", "refactored" and "refactoriza" are one term
START = "\x02"  # stands before the first word: an opening verb says more than one in the middle

# Ranges instead of \w: a plain character set matches twice as fast, and is the same in every version of Unicode.
_LETTERS = "a-z\u00df-\u024f\u0370-\u1fff"  # Latin, Greek, Cyrillic, and the alphabets up to Georgian and Khmer
# Chinese, Japanese and Korean are written without spaces: each character is a term, pairs come as bigrams.
_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_WORD = rf"{_LETTERS}0"
TOKEN = rf"([{_LETTERS}]{{1,{STEM}}}|[0?$={{}}{START}{_CJK}]|```)(?:(?<=[{_WORD}])[{_WORD}]*)?"

_find_terms = re.compile(TOKEN).findall


def fold(text: str) -> str:
    """Lower case, every ASCII digit a "0", START in front."""
    text = text.lower()
    for digit in "123456789":  # nine memchr passes: faster than one regular expression or translate
        text = text.replace(digit, "0")
    return START + " " + text


def terms(text: str) -> list[str]:
    """The terms of `text` in order: START, then word stems, digit runs as "0", code fences, ?, $, =, { and }."""
    found: list[str] = _find_terms(fold(text))
    return found


def stems(*words: str) -> frozenset[str]:
    """The terms that ASCII words become: rules name whole words and are matched against terms."""
    return frozenset(word[:STEM] for word in words)
