"""One spelling for texts that mean the same: signs, spaces, fractions, case, punctuation.

Knows nothing of answers or scores.
"""

from __future__ import annotations

import re
import unicodedata

_SAME = str.maketrans(
    {
        "\u2212": "-",  # minus sign
        "\u2010": "-",  # hyphen
        "\u2011": "-",  # non-breaking hyphen
        "\ufe63": "-",  # small hyphen-minus
        "\uff0d": "-",  # fullwidth hyphen-minus
        "\u2018": "'",
        "\u2019": "'",
        "\u201c": '"',
        "\u201d": '"',
        "\u200b": None,  # zero-width space
        "\ufeff": None,
    }
)
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_SUPERSCRIPT_RUN = re.compile("[⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+")
_GROUP_SPACE = re.compile("(?<=[0-9])[\u00a0\u2009\u202f'_](?=[0-9]{3}(?![0-9]))")
_EN_DASH_SIGN = re.compile(r"(^|[\s=(\[{:$])\u2013(?=\.?[0-9])")
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_THOUSANDS = re.compile(r"(?<![0-9,])[0-9]{1,3}(?:,[0-9]{3})+(?![0-9]|,[0-9])")
_INNER_HYPHEN = re.compile(r"(?<=[^\W\d_])-(?=[^\W\d_])")
_OPERATOR = re.compile(r"\s*([-+*/^=<>%])\s*")
_MARKS = frozenset("+-*/^=<>%#")


def unify(text: str) -> str:
    """Return text with one spelling of minus signs, quotes, spaces, powers and fractions.

    A minus sign becomes "-", "1 000" with a thin space "1,000", "10⁻⁷" "10^-7", "1½" "1 1/2".
    """
    text = text.translate(_SAME)
    text = _EN_DASH_SIGN.sub(r"\1-", text)
    text = _GROUP_SPACE.sub(",", text)
    text = _SUPERSCRIPT_RUN.sub(lambda run: "^" + run[0].translate(_SUPERSCRIPTS), text)
    return unicodedata.normalize("NFKC", "".join(map(_spelled_fraction, text, " " + text)))


def _spelled_fraction(character: str, before: str) -> str:
    if not unicodedata.decomposition(character).startswith("<fraction>"):
        return character
    spelled = unicodedata.normalize("NFKC", character).replace("\u2044", "/")
    return f" {spelled}" if before.isdigit() else spelled


def without_thousands_separators(text: str) -> str:
    """Return text with "1,234,567" written "1234567"; "1,23" stays."""
    return _THOUSANDS.sub(lambda number: number[0].replace(",", ""), text)


def normalize(text: str) -> str:
    """Return a text as it is compared with another: no case, punctuation, articles.

    Signs that carry meaning stay: points within numbers, and + - * / ^ = < > % #. A text made of
    nothing but punctuation or articles stays whole, so that ")" differs from "]" and "A" from "".
    """
    text = without_thousands_separators(unify(text).casefold())
    if not any(character.isalnum() for character in text):
        return "".join(text.split())
    text = _INNER_HYPHEN.sub(" ", text)
    kept = [_kept(text, index) for index in range(len(text))]
    words = _OPERATOR.sub(r"\1", "".join(kept)).split()
    short = " ".join(" ".join(_ARTICLES.split(" ".join(words))).split())
    return short or " ".join(words)


def _kept(text: str, index: int) -> str:
    character = text[index]
    if character.isalnum() or character.isspace() or character in _MARKS:
        return character
    around = text[index - 1 : index] + text[index + 1 : index + 2]
    if character in ".,":
        return character if len(around) == 2 and around.isdigit() else _gap(character)  # noqa: PLR2004
    if character == "'":
        return ""
    # Combining marks belong to their letter; emoji are words. Currencies are neither.
    kind = unicodedata.category(character)
    return character if kind[0] == "M" or kind in {"Sm", "So"} else _gap(character)


def _gap(character: str) -> str:
    return "" if character == "." else " "
