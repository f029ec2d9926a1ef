from __future__ import annotations

from fractions import Fraction

import pytest

from langgraph_switch.scoring.normalize import normalize
from langgraph_switch.scoring.numbers import agree, last_number, stated_number, whole_number

STATED = [
    ("5", 5),
    ("5 apples", 5),
    ("5km", 5),
    ("$5", 5),
    ("\\$5", 5),
    ("-$5", -5),
    ("$-5", -5),
    ("\u22125", -5),  # minus sign
    ("\u20135", -5),  # en dash
    ("minus 5", -5),
    ("+7", 7),
    ("1,234,567.5", 1234567.5),
    ("1\u202f234", 1234),  # narrow no-break space
    ("1 234 567", 1234567),
    ("1{,}234", 1234),
    ("1'234", 1234),
    ("1_000", 1000),
    ("3.5e-7", 3.5e-7),
    ("3.5 \u00d7 10^{-7}", 3.5e-7),
    ("3.5 \\times 10^{-7}", 3.5e-7),
    ("3.5*10**4", 35000),
    ("10^5", 1e5),
    ("10\u207b\u2077", 1e-7),  # superscript
    (".5", 0.5),
    ("1/2", 0.5),
    ("\\frac{1}{2}", 0.5),
    ("-\\dfrac{3}{4}", -0.75),
    ("\\frac12", 0.5),
    ("1\\frac{1}{2}", 1.5),
    ("1 1/2", 1.5),
    ("\u00bd", 0.5),
    ("1\u00bd cups", 1.5),
    ("50%", 50),
    ("50\\%", 50),
    ("2 million", 2_000_000),
    ("$1.2 billion", 1.2e9),
    ("seven", 7),
    ("twenty-one", 21),
    ("minus three", -3),
    ("one hundred and five apples", 105),
    ("two hundred and fifty thousand", 250_000),
    ("x = -3", -3),
    ("3 + 4 = 7", 7),
    ("about 5", 5),
    ("\u2248 3.14", 3.14),
    ("5 (five)", 5),
    ("5, not 6", 5),
    ("5 out of 10", 5),
    ("90^\\circ", 90),
    ("5 \\text{ cm}", 5),
    ("5 cm^2", 5),
    ("\uff15", 5),  # fullwidth digit
]
NO_NUMBER = [
    "3 and 5",
    "3, 5",
    "3 or 5",
    "3 apples and 5 pears",
    "five or six",
    "3 hours and 20 minutes",
    "between 5 and 7",
    "5-7",
    "3 x 5",
    "3 + 5",
    "2^5",
    "5(x + 1)",
    "2\\sqrt{2}",
    "2\\pi",
    "\\sqrt{2}",
    "5x",
    "3i",
    "x + 5",
    "x - 5",
    "\\frac{x}{2}",
    "H2O",
    "GPT-4",
    "3:20",
    "2020-05-01",
    "two thirds",
    "3/0",
    "1e999999999",
    "no idea",
    "",
]


@pytest.mark.parametrize(("text", "value"), STATED)
def test_a_number_is_read_as_it_is_meant(text: str, value: float) -> None:
    number = stated_number(text)
    assert number is not None
    assert float(number.value) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("text", NO_NUMBER)
def test_what_states_no_single_number_has_none(text: str) -> None:
    assert stated_number(text) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3 spiders have 24 legs, 2 cats 8, so 24 + 8 = 32.", 32),
        ("It costs $5, of 10", 10),
        ("- 5 apples", 5),
        ("so it is GPT-4", None),
        ("nothing", None),
    ],
)
def test_the_last_number_of_a_text(text: str, value: int | None) -> None:
    number = last_number(text)
    assert (None if number is None else number.value) == value


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("112.0", "112", True),
        ("112.4", "112", False),
        ("36000", "36,000", True),
        ("0.333", "1/3", True),
        ("0.3333", "1/3", True),
        ("0.33", "1/3", False),
        ("1/3", "0.333", True),
        ("0.3679", "0.367879441", True),
        ("3.54e-7", "3.5421e-07", True),
        ("3.5e-7", "3.54e-07", False),
        ("0.000000354", "3.54e-07", True),
        ("12.50", "12.5", True),
        ("12.51", "12.50", False),
        ("0.04", "0.0", False),
        ("23.02", "23.0", False),
        ("50%", "50", True),
        ("50%", "0.5", True),
        ("0.5", "50%", True),
        ("50", "0.5", False),
        ("-5", "5", False),
    ],
)
def test_numbers_agree_as_far_as_they_are_written_out(
    answer: str, reference: str, *, expected: bool
) -> None:
    own, right = stated_number(answer), whole_number(reference)
    assert own is not None
    assert right is not None
    assert agree(own, right) is expected


def test_a_tolerance_is_a_share_of_the_reference() -> None:
    reference = whole_number("200")
    assert reference is not None
    for text, expected in (("202", True), ("203", False), ("198", True)):
        own = stated_number(text)
        assert own is not None
        assert agree(own, reference, rel_tol=0.01) is expected


def test_fractions_are_exact() -> None:
    number = whole_number("1/3")
    assert number is not None
    assert number.value == Fraction(1, 3)


@pytest.mark.parametrize("text", ["5 apples and 2 pears", "x + 1", "3:20", "[3, 5]", "", "Paris"])
def test_a_reference_that_is_more_than_a_number_is_none(text: str) -> None:
    assert whole_number(text) is None


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("The Beatles", "beatles"),
        ("U.S.A.", "USA"),
        ("Dennis O\u2019Keefe", "dennis o'keefe"),
        ("well-known", "well known"),
        ("1,000", "1000"),
        ("x + 1", "x+1"),
        ("Stra\u00dfe", "STRASSE"),
        ("\u22125", "-5"),
        ("$5", "5"),
        ("Paris,  France!", "paris france"),
    ],
)
def test_texts_that_mean_the_same_are_normalised_alike(text: str, same: str) -> None:
    assert normalize(text) == normalize(same)


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("x+1", "x-1"),
        ("-5", "5"),
        ("3.5", "35"),
        ("3,5", "35"),
        ("A", ""),
        ("A", "the"),
        (")", "]"),
        ("C++", "C"),
        ("\U0001f1e8\U0001f1fd", ""),
    ],
)
def test_texts_that_differ_stay_different(text: str, other: str) -> None:
    assert normalize(text) != normalize(other)
