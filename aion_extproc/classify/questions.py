"""Questions with answers to choose from, and word problems: their shape says who will get them right.

Measured on exam questions, what tells whether a strong model gains anything is less the subject than the form: how much
the options repeat each other, how many quantities and conditions there are, how long each part is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import log1p
from typing import Final

READ = 6_000  # characters of a question that are read, from its end
LEAST_OPTIONS = 3
LONGEST = 2_000  # characters of a word problem
WORDY = 12  # words; with fewer it is a sum, not a word problem
QUANTITIES = 2

_OPTION: Final = re.compile(r"(?:^|\n)\s{0,4}\(?([A-J])[.):]\s{1,3}(?=\S)")
_ANSWER: Final = re.compile(r"\n\s*(?:Answer|ANSWER|The answer)\b[^\n]{0,40}$")
_WORD: Final = re.compile(r"[a-z]+|\d+")
_NUMBER: Final = re.compile(r"\s*\$?-?[\d,]*\.?\d+\D{0,12}")
_NEGATED: Final = re.compile(r"\b(?:not|except|least|incorrect|false)\b")
_PERSON: Final = re.compile(r"\b(?:i|he|she|his|her|man|woman|you)\b")
_FORMULA: Final = re.compile(r"[=+*/^<>]")
_QUANTITY: Final = re.compile(
    r"\d+(?:[.,]\d+)*|%|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|half|third"
    r"|quarter|twice|double|triple|dozen|percent|each|every|per)\b"
)
_ASKS: Final = re.compile(
    r"\b(?:how (?:many|much|long|far|old|tall|heavy|fast|often)|find|calculate|determine"
    r"|what (?:is|was|are|were|will|percent|percentage|fraction))\b"
)
_TOLD_TO: Final = ("?", "calculate", "Calculate", "determine", "Determine", "Find ")
_COMPARES: Final = frozenset(
    (
        *("increase", "increases", "increased", "decrease", "decreases", "decreased", "more", "less", "greater"),
        *("lower", "higher", "larger", "smaller", "fewer", "faster", "slower", "same", "equal", "rise", "fall"),
        *("rises", "falls", "twice", "half", "double"),
    )
)
_LOGIC: Final = frozenset(
    (
        *("if", "then", "only", "all", "some", "none", "every", "not", "either", "neither", "both", "and", "or"),
        *("because", "therefore", "although", "unless", "however"),
    )
)
_VERDICTS: Final = frozenset(["true", "false", "yes", "no", "wrong", "right"])


@dataclass(frozen=True, slots=True)
class Question:
    """A question and the answers to choose from."""

    stem: str
    options: tuple[str, ...]


def choice_question(text: str) -> Question | None:
    """The question that a text is, if it ends with at least LEAST_OPTIONS options A, B, C … on lines of their own."""
    shown = text[-READ:]
    if "\n" not in shown or "B" not in shown:
        return None
    found = list(_OPTION.finditer(shown))
    starts = [i for i, match in enumerate(found) if match[1] == "A"]
    if not starts:
        return None
    run = found[starts[-1] :]
    if len(run) < LEAST_OPTIONS or any(match[1] != chr(ord("A") + i) for i, match in enumerate(run)):
        return None
    ends = [*(match.start() for match in run[1:]), len(shown)]
    options = [shown[match.end() : end] for match, end in zip(run, ends, strict=True)]
    options[-1] = _ANSWER.sub("", options[-1])
    return Question(shown[: run[0].start()].strip(), tuple(option.strip() for option in options))


FEATURES: Final = (
    *("stem_length", "option_length", "longest_option", "option_range", "relative_range", "unique", "overlap"),
    *("in_stem", "first_words", "last_words", "digits_most", "digits_mean", "number_share", "numbers", "word_length"),
    *("option_word_length", "long_words", "long_option_words", "compares", "option_compares", "logic", "option_logic"),
    *("stem_unique", "sentences", "commas", "asks", "ends", "blank", "which_of", "negated", "upper", "option_upper"),
    *("signs", "option_signs", "option_words", "lines", "person", "following", "distinct", "length", "similar_most"),
    *("similar_mean", "similar_least", "numeric_options", "verdicts", "option_lists", "option_stops", "formulas"),
    *("the", "of", "is", "a", "past", "plurals", "question_length", "percent", "dollar", "quoted"),
)


def features(question: Question) -> list[float]:
    """The numbers of FEATURES, in their order."""
    stem, options = question.stem, question.options
    low = stem.lower()
    words = _WORD.findall(low)
    count = max(1, len(words))
    of_options = [_WORD.findall(option.lower()) for option in options]
    flat = [word for found in of_options for word in found]
    many = max(1, len(flat))
    sets = [set(found) for found in of_options]
    grams = [_trigrams(option) for option in options]
    lengths = [len(option) for option in options]
    mean_length = _mean(lengths)
    digits = [sum(map(str.isdigit, option)) / max(1, len(option)) for option in options]
    similar = [len(a & b) / max(1, len(a | b)) for a, b in combinations(grams, 2)]
    stem_words = set(words)
    numbers = sum(map(str.isdigit, words))
    asked = re.split(r"(?<=[.?!])\s", stem)
    tail = stem.rstrip()[-1:]
    all_options = " ".join(options)
    return [
        log1p(len(stem)),
        log1p(mean_length),
        log1p(max(lengths)),
        log1p(max(lengths) - min(lengths)),
        (max(lengths) - min(lengths)) / (1 + mean_length),
        len(set(flat)) / many,
        _mean([len(a & b) / max(1, len(a | b)) for a, b in combinations(sets, 2)]),
        _mean([len(found & stem_words) / max(1, len(found)) for found in sets]),
        len({found[0] for found in of_options if found}),
        len({found[-1] for found in of_options if found}),
        max(digits),
        _mean(digits),
        numbers / count,
        log1p(numbers),
        _mean([len(word) for word in words]),
        _mean([len(word) for word in flat]),
        sum(len(word) >= 8 for word in words) / count,
        sum(len(word) >= 8 for word in flat) / many,
        sum(word in _COMPARES for word in words) / count,
        sum(word in _COMPARES for word in flat) / many,
        sum(word in _LOGIC for word in words) / count,
        sum(word in _LOGIC for word in flat) / many,
        len(stem_words) / count,
        stem.count("."),
        log1p(stem.count(",")),
        tail == "?",
        tail == ".",
        "_" in stem,
        "which of the following" in low,
        _NEGATED.search(low) is not None,
        sum(map(str.isupper, stem)) / max(1, len(stem)),
        sum(map(str.isupper, all_options)) / max(1, len(all_options)),
        sum(not c.isalnum() and not c.isspace() for c in stem) / max(1, len(stem)),
        sum(not c.isalnum() and not c.isspace() for c in all_options) / max(1, len(all_options)),
        _mean([len(found) for found in of_options]),
        stem.count("\n"),
        _PERSON.search(low) is not None,
        "the following" in low or "statement" in low,
        len({option.lower() for option in options}),
        log1p(len(stem) + sum(lengths)),
        max(similar),
        _mean(similar),
        min(similar),
        sum(_NUMBER.fullmatch(option) is not None for option in options),
        sum(not _VERDICTS.isdisjoint(found) for found in sets),
        sum(option.count(",") for option in options),
        sum(option.endswith(".") for option in options),
        sum(_FORMULA.search(option) is not None for option in options),
        words.count("the") / count,
        words.count("of") / count,
        words.count("is") / count,
        (words.count("a") + words.count("an")) / count,
        sum(word.endswith("ed") for word in words) / count,
        sum(word.endswith("s") for word in flat) / many,
        log1p(len(asked[-1])),
        "%" in stem or "%" in all_options,
        "$" in stem or "$" in all_options,
        '"' in stem,
    ]


def word_problem(text: str) -> float | None:
    """How much there is to do in a problem told in prose: ln(characters) + .7 · ln(1 + quantities), or None.

    Prose without code that gives at least QUANTITIES quantities and asks for one. Not learned from any data: longer
    chains of steps need more sentences and more quantities.
    """
    if len(text) > LONGEST or not any(map(text[-400:].__contains__, _TOLD_TO)) or "```" in text or "{" in text:
        return None
    low = text.lower()
    if _ASKS.search(low) is None or not any(map(low.__contains__, "0123456789")) or low.count(" ") < WORDY:
        return None
    quantities = len(_QUANTITY.findall(low))
    if quantities < QUANTITIES:
        return None
    return log1p(len(text)) + 0.7 * log1p(quantities)


def _trigrams(text: str) -> set[str]:
    padded = f" {text.lower()[:400]} "
    return {padded[i : i + 3] for i in range(len(padded) - 2)}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
