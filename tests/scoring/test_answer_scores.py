from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rows import answered

from langgraph_switch.errors import MissingExtraError
from langgraph_switch.scoring import make_score, score_answers
from langgraph_switch.scoring.exact import ExactMatch
from langgraph_switch.scoring.f1 import TokenF1, token_f1
from langgraph_switch.scoring.math_equivalence import MathEquivalence
from langgraph_switch.scoring.numeric import Numeric


@pytest.mark.parametrize(
    ("response", "reference", "value"),
    [
        ("The answer is 5 apples.", "5", 1),
        ("The answer is 5 or 6.", "5", 0),
        ("The answer is not 5.", "5", 0),
        ("He has $36,000 left.", "36,000", 1),
        ("24 + 8 = 32", "32", 1),
        ("24 + 8 = 32", "24", 0),
        ("The answer is (D).", "D", 1),
        ("The answer is (D) green.", "D", 1),
        ("The answer is A dog.", "A", 0),
        ("(b)", "(b)", 1),
        ("So it is [3,5]", "[3, 5]", 1),
        ("The answer is 3 and 5.", "[3, 5]", 1),
        ("\\boxed{(3, 5.0)}", "[3, 5]", 1),
        ("The answer is {3, 5}", "[3, 5]", 1),
        ("The answer is 5, 3", "[3, 5]", 0),
        ("The answer is [3, 5, 7]", "[3, 5]", 0),
        ("The answer is [1,000, 5]", "[1000, 5]", 1),
        ("Yes, because it rains.", "True", 1),
        ("The answer is no.", "False", 1),
        ("The answer is not true.", "False", 0),
        ("The argument is\nInvalid", "invalid", 1),
        ("The answer is ] > )", "] > )", 1),
        ("The answer is ] > }", "] > )", 0),
        ("The answer is the Beatles!", "Beatles", 1),
        ("The answer is 24.", "6*4\n#### 24", 1),
        ("The answer is x-1", "x+1", 0),
        ("", "5", 0),
    ],
)
def test_exact_match(response: str, reference: str, value: float) -> None:
    (result,) = score_answers(ExactMatch(), [answered(response, reference)])
    assert result.value == value


def test_exact_match_accepts_any_alias() -> None:
    (result,) = score_answers(ExactMatch(), [answered("NYC", "New York", "NYC")])
    assert result.value == 1


def test_a_tolerance_leaves_integers_exact() -> None:
    score = ExactMatch(rel_tol=0.01)
    pairs = [("3.5e-7", "3.54e-07"), ("1001", "1000"), ("1.0, 0.251", "[1.0, 0.25]")]
    results = score_answers(score, [answered(f"Answer: {a}", r) for a, r in pairs])
    assert [result.value for result in results] == [0, 0, 1]
    (result,) = score_answers(score, [answered("3.52e-7", "3.54e-07")])
    assert result.value == 1


@pytest.mark.parametrize(
    ("response", "reference", "value"),
    [
        ("3 spiders have 24 legs and 2 cats 8. Together 32 legs.", "32", 1),
        ("The answer is 32 legs, of 40.", "32", 1),
        ("The answer is thirty-two.", "32", 1),
        ("The answer is 3 or 32.", "32", 0),
        ("5 or 32", "32", 0),
        ("none", "32", 0),
        ("1/3", "0.333", 1),
    ],
)
def test_numeric(response: str, reference: str, value: float) -> None:
    (result,) = score_answers(Numeric(), [answered(response, reference)])
    assert result.value == value


def test_numeric_tells_what_it_read() -> None:
    results = score_answers(Numeric(), [answered(r, "1") for r in ("It is 1,500.0.", "2.5%", "?")])
    assert [result.answer for result in results] == ["1500", "2.5%", None]


def test_a_reference_that_is_no_number_marks_its_row_alone() -> None:
    results = score_answers(Numeric(), [answered("5", "many"), answered("5", "5"), answered("5")])
    assert [result.value for result in results] == [None, 1, None]
    assert "'many' is no number" in str(results[0].error)


@pytest.mark.parametrize(
    ("text", "reference", "value"),
    [
        ("Paris", "paris", 1),
        ("Paris, France", "Paris", 2 / 3),
        ("the Paris", "Paris", 1),
        ("Rome", "Paris", 0),
        ("yes yes", "yes", 2 / 3),
        ("The The", "The The", 1),
        ("", "", 1),
        ("", "Paris", 0),
        ("\u6e05\u592a\u7956", "\u6e05\u592a\u7956", 1),
    ],
)
def test_token_f1(text: str, reference: str, value: float) -> None:
    assert token_f1(text, reference) == pytest.approx(value)


def test_f1_takes_the_best_alias_of_the_stated_answer() -> None:
    answer = answered("Long talk.\nThe answer is Big Apple.", "New York City", "Big Apple")
    (result,) = score_answers(TokenF1(), [answer])
    assert (result.value, result.answer) == (1, "Big Apple")


@given(st.text(max_size=40), st.text(max_size=40))
def test_f1_is_symmetric_and_from_zero_to_one(text: str, other: str) -> None:
    assert token_f1(text, other) == token_f1(other, text)
    assert 0 <= token_f1(text, other) <= 1
    assert token_f1(text, text) == 1


_MATH = [
    ("x(x+1)", "x^2+x", 1),
    ("The answer is $\\frac{2}{4}$", "1/2", 1),
    ("\\boxed{\\sqrt{8}}", "2\\sqrt{2}", 1),
    ("sqrt(8)", "2\\sqrt{2}", 1),
    ("pi/2", "\\frac{\\pi}{2}", 1),
    ("\\boxed{\\{1, 2\\}}", "\\{2, 1\\}", 1),
    ("\\boxed{(1, 2)}", "(2, 1)", 0),
    ("The answer is 2^10.", "1024", 1),
    ("so that $x = 3$ and then $y = 4$", "4", 1),
    ("x + 5", "5", 0),
    ("\\boxed{[0, 1)}", "[0, 1]", 0),
    ("\\boxed{\\text{Even}}", "even", 1),
    ("}{", "5", 0),
    ("", "5", 0),
]


@pytest.fixture(scope="module")
def math_score() -> MathEquivalence:
    return MathEquivalence(timeout_s=30)


@pytest.mark.parametrize(("response", "reference", "value"), _MATH)
def test_math(math_score: MathEquivalence, response: str, reference: str, value: float) -> None:
    (result,) = score_answers(math_score, [answered(response, reference)])
    assert result.value == value


def test_math_works_in_any_thread(math_score: MathEquivalence) -> None:
    answers = [answered(response, reference) for response, reference, _ in _MATH]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda one: score_answers(math_score, [one])[0].value, answers))
    assert results == [value for *_, value in _MATH]


def test_a_comparison_without_end_marks_its_row_and_the_next_goes_on() -> None:
    score = MathEquivalence(timeout_s=2)
    endless, harmless = answered("\\boxed{9^{9^{9^9}}}", "3"), answered("x+x", "2x")
    start = time.perf_counter()
    score_answers(score, [endless])
    assert time.perf_counter() - start < 20
    slow = MathEquivalence(timeout_s=30)
    (result,) = score_answers(slow, [harmless])
    assert result.value == 1
    (result,) = score_answers(score, [endless])
    assert result.error is not None
    assert "within 2 s" in result.error
    score.close()
    slow.close()


def test_math_without_math_verify_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "langgraph_switch.scoring.math_equivalence.find_spec",
        lambda name: None if name == "math_verify" else find_spec(name),
    )
    with pytest.raises(MissingExtraError, match=r"langgraph-switch\[math\]"):
        make_score("math")


def test_scores_of_texts_need_no_torch() -> None:
    program = """
import sys
from langgraph_switch.scoring import make_score
for name in ("exact_match", "numeric", "f1", "multiple_choice", "math"):
    make_score(name)
print([one for one in ("torch", "transformers", "langchain_core", "sympy") if one in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
