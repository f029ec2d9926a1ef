r"""Numbers as people and models write them, and when two of them agree.

| written | read as |
|---|---|
| `1,234`, `1 234` (thin space), `1'234`, `1_234`, `1{,}234` | 1234 |
| `$5`, `5 apples`, `5km`, `-$5` | 5, 5, 5, -5 |
| `3.5e-7`, `3.5 x 10^{-7}`, `3.5 \times 10^{-7}`, `10^5` | powers of ten |
| `1/2`, `\frac{1}{2}`, `1 1/2`, `1½` | fractions, exactly |
| `50%`, `50 percent` | 50, and 0.5 agrees too |
| `2 million`, `minus 3`, `twenty-one` | words |
| `3, 5`, `3 and 5`, `3 x 5`, `5-7` (where one answer is stated) | no single number |

Knows nothing of where in a response the answer stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from langgraph_switch.scoring.normalize import unify

_MIN_SIGNIFICANT_DIGITS = 3
_MAX_EXPONENT = 400
_SCALES = {
    "hundred": 10**2,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
}
_SMALL = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen
fifteen sixteen seventeen eighteen nineteen"""
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_WORDS = {word: value for value, word in enumerate(_SMALL.split())} | {
    word: 10 * value for value, word in enumerate(_TENS.split(), start=2)
}
_BEFORE_WORDS = {"about", "exactly", "only", "just", "the", "is", "approximately", "roughly"}
_PARTS = {"half", "halves", "third", "thirds", "quarter", "quarters", "fifth", "fifths", "tenths"}
_ANOTHER = re.compile(rf"(?:\w+ ){{0,2}}(?:and|or|to) (?:{'|'.join(_WORDS)})\b")
_LATEX_GROUP = re.compile(r"(?<=[0-9])(?:\{,\}|\\[,;:! ]|,\\!)(?=[0-9]{3}(?![0-9]))")
_LATEX_FRACTION = re.compile(
    r"\\[dtc]?frac\s*(?:\{\s*(-?[0-9]+)\s*\}\s*\{\s*([0-9]+)\s*\}|([0-9])\s*([0-9]))"
)
_SIGN_WORD = re.compile(r"\b(?:minus|negative)\s+(?=[$€£¥]?[0-9])", re.IGNORECASE)
_DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9]|,[0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+"
_TEN_TO_THE = r"10\s*(?:\^|\*\*)\s*\{?\s*"
_NUMBER = re.compile(
    rf"""
    (?<![\w.])(?<![A-Za-z]-)(?<![0-9]:)           # not in H2O, GPT-4, 3:20
    (?P<sign>(?<![\w)\]}}])[-+])?
    (?:(?:\\?[$€£¥₹]|USD|EUR)\s?)?(?P<sign2>[-+](?=[0-9.]))?
    (?:
      (?P<whole>[0-9]+)\s+(?P<over>[0-9]+)\s*/\s*(?P<under>[0-9]+)(?![0-9/])
    | (?P<numerator>[0-9]+)\s*/\s*(?P<denominator>[0-9]+)(?![0-9/])
    | {_TEN_TO_THE}(?P<power>[-+]?[0-9]+)\s*\}}?
    | (?P<digits>{_DIGITS})
      (?:[eE](?P<exponent>[-+]?[0-9]+)(?!\w)
        |\s*(?:[x\u00d7*·]|\\times|\\cdot)\s*{_TEN_TO_THE}(?P<ten>[-+]?[0-9]+)\s*\}}?)?
    )
    (?![0-9]|\.[0-9]|:[0-9]|\s?[xyz]\b|[abcin]\b)  # not in 3:20, 1.2.3, 5x
    (?:\s*(?P<percent>\\?%|per\s?cent\b))?
    (?:[\s-]*(?P<scale>hundred|thousand|million|billion|trillion)\b)?
    """,
    re.VERBOSE | re.IGNORECASE,
)
_GROUPED_BY_BLANKS = re.compile(r"[-+]?[$€£¥]?[0-9]{1,3}(?: [0-9]{3})+(?:\.[0-9]+)?")
_GOES_ON = re.compile(
    r"""\s*(?:[*\u00d7·^/+]|-\s*|\u2013\s*|\\times|\\cdot|\\div|x\s)\s*[$€£]?\\?[0-9(]  # 3 x 5
    | \^(?!\s*\{?\\circ) | [(\u03c0\u221a]                         # 3^n, 3(x + 1)
    | \s*\\(?!text|mathrm|mbox|circ|degree|quad|right|[%$,;!: )\]])  # 3 root 2
    | (?:\s+[^\W\d_]+){0,2}\s*(?:[,;&]|,?\s*\b(?:and|or|to|plus|minus)\b)
      \s*[-+]?[$€£]?\.?[0-9]                                  # 3 pears and 5""",
    re.VERBOSE | re.IGNORECASE,
)


_IN_A_FORMULA = re.compile(
    r"""(?:(?<![A-Za-z])[A-Za-z]|[)}])\s*[-+*/^\u00d7]\s*\Z          # x + 3, (x + 1)/3
    | (?:[*/^]|[0-9]\s*x)\s*\Z                                     # 3 x 5
    | (?:\\|\b)(?:sqrt|log|ln|sin|cos|tan|exp|[dt]?frac|binom)\b""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Number:
    """A number as written."""

    value: Fraction
    unit: Fraction
    """What its last written digit stands for: 1/100 for "2.50"; 0 for a fraction, which is
    exact."""
    is_percent: bool = False


def find_numbers(text: str) -> Iterator[tuple[Number, int, int]]:
    """Yield every number of a text that `prepare` returned, and where it begins and ends."""
    for found in _NUMBER.finditer(text):
        number = _number(found)
        if number is not None:
            yield number, *found.span()


def prepare(text: str) -> str:
    """Return text with one way to write separators, fractions and signs."""
    text = _LATEX_GROUP.sub(",", unify(text))
    text = _LATEX_FRACTION.sub(
        lambda f: f"{_gap_before(f)}{f[1] or f[3]}/{f[2] or f[4]}", text.replace("\\left", "")
    )
    return _SIGN_WORD.sub("-", text)


def _gap_before(found: re.Match[str]) -> str:
    return " " if found.string[: found.start()][-1:].isdigit() else ""


def stated_number(text: str) -> Number | None:
    """Return the one number that a short text states: the first, behind the last "=".

    None where it states several ("3 and 5"), a sum or product not worked out, or none.
    """
    text = prepare(text).strip()
    if _GROUPED_BY_BLANKS.fullmatch(text):
        text = text.replace(" ", "")
    text = re.split(r"[=≈~]", text)[-1]
    for number, start, end in find_numbers(text):
        before = text[:start] + ("-" if text[start] in "+-" else "")
        is_part = _GOES_ON.match(text, end) or _IN_A_FORMULA.search(before)
        return None if is_part else number
    return _number_in_words(text)


def last_number(text: str) -> Number | None:
    """Return the last number of a text, for responses that state no answer."""
    last = None
    for number, _, _ in find_numbers(prepare(text)):
        last = number
    return last


def whole_number(text: str) -> Number | None:
    """Return the number that a text is, unit and currency aside; None if it says more.

    It is what a reference must be in order to be compared as a number: "36,000", "$5", "2 1/2",
    "3.5e-7"; not "5 apples and 2 pears", "x + 1", "3:20".
    """
    prepared = prepare(text).strip().rstrip(".")
    found = _NUMBER.fullmatch(prepared)
    return _number(found) if found else None


def agree(number: Number, reference: Number, *, rel_tol: float | None = None) -> bool:
    """Return whether a number is the reference, as far as both are written out.

    With `rel_tol`, whether they differ by at most that share of the reference. Without, an
    integer must be met exactly, and anything else after rounding to the fewer decimals of both,
    though never to fewer than three significant digits: 0.333 and 0.3333 are 1/3, 0.33 is not.
    A percentage agrees with its number and with its share: 50% with 50 and with 0.5.
    """
    values = [number.value]
    targets = [reference]
    if number.is_percent and not reference.is_percent:
        values.append(number.value / 100)
    if reference.is_percent and not number.is_percent:
        targets.append(Number(reference.value / 100, reference.unit / 100))
    return any(
        abs(value - target.value) <= _slack(number, value, target, rel_tol)
        for value in values
        for target in targets
    )


def _slack(number: Number, value: Fraction, target: Number, rel_tol: float | None) -> Fraction:
    if rel_tol is not None:
        return abs(target.value) * Fraction(rel_tol)
    if target.value.denominator == 1:
        return Fraction(0)
    unit = number.unit if value == number.value else number.unit / 100
    coarsest = _power_of_ten(_magnitude(target.value) + 1 - _MIN_SIGNIFICANT_DIGITS)
    return max(target.unit, min(unit, coarsest)) / 2


def _magnitude(value: Fraction) -> int:
    """Return the power of ten of the first significant digit."""
    magnitude = len(str(abs(value.numerator))) - len(str(value.denominator))
    return magnitude if abs(value) >= _power_of_ten(magnitude) else magnitude - 1


def _power_of_ten(exponent: int) -> Fraction:
    return Fraction(10) ** exponent


def _number(found: re.Match[str]) -> Number | None:
    sign = -1 if "-" in (found["sign"] or "") + (found["sign2"] or "") else 1
    if found["under"] or found["denominator"]:
        under = int(found["under"] or found["denominator"])
        if under == 0:
            return None
        share = Fraction(int(found["over"] or found["numerator"]), under)
        value, unit = int(found["whole"] or 0) + share, Fraction(0)
    else:
        exponent = int(found["power"] or found["ten"] or found["exponent"] or 0)
        if abs(exponent) > _MAX_EXPONENT:
            return None
        digits = (found["digits"] or "1").replace(",", "")
        scale = _power_of_ten(exponent)
        value = Fraction(digits) * scale
        unit = _power_of_ten(-len(digits.partition(".")[2])) * scale
    factor = _SCALES[found["scale"].lower()] if found["scale"] else 1
    return Number(sign * value * factor, unit * factor, found["percent"] is not None)


def _number_in_words(text: str) -> Number | None:
    """Return the number whose words begin a text ("twenty-one apples"), or None."""
    words = re.findall(r"[^\W\d_]+", text.lower())
    while words and words[0] in _BEFORE_WORDS:
        words.pop(0)
    sign = -1 if words and words[0] in {"minus", "negative"} else 1
    words = words[1:] if sign < 0 else words
    total = current = length = 0
    for length, word in enumerate(words):
        if word in _WORDS:
            current += _WORDS[word]
        elif word == "hundred" and length:
            current *= _SCALES[word]
        elif word in _SCALES and length:
            total, current = total + current * _SCALES[word], 0
        elif not (word == "and" and words[length - 1] == "hundred"):
            break
    else:
        length = len(words)
    goes_on = words[length : length + 1]
    several = bool(goes_on) and (goes_on[0] in _PARTS or _ANOTHER.match(" ".join(words[length:])))
    if not length or several:
        return None
    return Number(Fraction(sign * (total + current)), Fraction(1))
