from __future__ import annotations

import pytest

from langgraph_switch.scoring.extract import final_answer, marked_answer

STATED = [
    # phrases, and the last of them
    ("The answer is 42.", "42"),
    ("The answer is 3. Wait, no. The answer is 4.", "4"),
    ("the Answer is: 42", "42"),
    ("So the correct answer would be 7!", "7"),
    ("The answer to the question is 12 apples.", "12 apples"),
    ("The answer, after all that, is 12.", "12"),
    ("The answer we get is 12.", "12"),
    ("Answer: 42", "42"),
    ("answer = 42", "42"),
    ("ans: 42", "42"),
    ("So the answer is therefore 42.", "42"),
    ("The answer should be as follows: 42", "42"),
    ("The best option is C) blue", "C) blue"),
    ("Final Answer: The final answer is $5$. I hope it is correct.", "5"),
    # where the answer ends
    ("The answer is 3.5.", "3.5"),
    ("The answer is 3.5. It took 2 steps.", "3.5"),
    ("The answer is Dr. No.", "Dr. No"),
    ("The answer is J. K. Rowling.", "J. K. Rowling"),
    ("The answer is U.S. Steel. It was large.", "U.S. Steel"),
    ("The answer is No. The player is in the wrong sport.", "No"),
    ("The answer is B because A is wrong.", "B"),
    ("The right answer would be **Paris**, which is in France.", "Paris"),
    ("The answer is 12, since 3 x 4 = 12.", "12"),
    ("The answer is That Darn Cat.", "That Darn Cat"),
    ("The answer is Then There Were None.", "Then There Were None"),
    ("The answer is Because I Could.", "Because I Could"),
    ("The answer is 42\nThe question was hard.", "42"),
    # its own line
    ("The answer is:\n\n42", "42"),
    ("The answer is:\n\n$$\n42\n$$", "42"),
    ("The answer is\n\\[\n\\frac{1}{2}\n\\]", "\\frac{1}{2}"),
    ("### Answer\n42", "42"),
    ("### Final Answer\n\n**42**", "42"),
    # around it
    ("**Answer:** 42", "42"),
    ("**Answer**: 42", "42"),
    ("*Final answer:* `42`", "42"),
    ('The answer is "Paris".', "Paris"),
    ("The answer is \u201cParis\u201d.", "\u201cParis\u201d"),
    ("The answer is $\\frac{1}{2}$.", "\\frac{1}{2}"),
    ("The answer is \\(42\\).", "42"),
    ("The answer is \\text{Paris}.", "Paris"),
    ("The answer is $5.", "$5"),
    ("The answer is > ).", "> )"),
    # marks
    ("\\boxed{42}", "42"),
    ("First \\boxed{3}, then \\boxed{4}.", "4"),
    ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
    ("\\boxed{\\boxed{5}}", "5"),
    ("\\boxed{\\text{(B) Paris}}", "(B) Paris"),
    ("\\boxed{\\{1, 2\\}}", "\\{1, 2\\}"),
    ("\\fbox{42}", "42"),
    ("<answer> 42 </answer>", "42"),
    ("He has 3 + 4 = 7.\n#### 7", "7"),
    ("#### 1,000\n", "1,000"),
    ("#### Step 1: add\nThe answer is 5.", "5"),
    # marks against phrases
    ("The final answer is $\\boxed{4}$. I hope it is correct.", "4"),
    ("\\boxed{3} ... The final answer is 4.", "4"),
    ("\\boxed{4} is the final answer.", "4"),
    ("\\boxed{4}. The answer is plausible.", "4"),
    ("The answer is 7.\n\\boxed{", "7"),
    # denials
    ("The answer is not 5 but 6.", "6"),
    ("The answer is 6. The answer is not 5.", "6"),
    ("The answer isn't 5. The answer is 6.", "6"),
    ("The answer is not enough information.", "not enough information"),
    # what is no answer of this response
    ("<think>The answer is 5.</think>The answer is 6.", "6"),
    ("Answer: 5\n\nQuestion: How many?\nAnswer: 9", "5"),
    ("Question: How many?\nAnswer: 9", "9"),
]
NOT_STATED = [
    ("42", "42"),
    ("**42**", "42"),
    ("Is the answer 5?", "Is the answer 5?"),
    ("I do not know the answer.\nSorry", "I do not know the answer.\nSorry"),
    ("The answer is not 5.", ""),
    ("It is 7. The answer is not 5.", "It is 7"),
    ("<think>The answer is 5.", ""),
    ("<think>Hm.</think>\n6", "6"),
    ("", ""),
]


@pytest.mark.parametrize(("response", "answer"), STATED)
def test_a_stated_answer_is_found(response: str, answer: str) -> None:
    found = final_answer(response)
    assert (found.text, found.is_stated) == (answer, True)


@pytest.mark.parametrize(("response", "text"), NOT_STATED)
def test_a_response_that_states_nothing_is_its_own_answer(response: str, text: str) -> None:
    found = final_answer(response)
    assert (found.text, found.is_stated) == (text, False)


@pytest.mark.parametrize("answer", ["42", "-3.5", "1/2", "Paris", "Dr. No", "(B)", "[3, 5]", "x=2"])
@pytest.mark.parametrize(
    "form",
    [
        "The answer is {}.",
        "Some steps, 17 of them.\n\n**Final Answer:** {}",
        "So \\boxed{{{}}}.",
        "<answer>{}</answer>",
        "The answer is 1. No: the answer is **{}**.",
        "steps\n#### {}",
    ],
)
def test_every_form_gives_the_same_answer(form: str, answer: str) -> None:
    assert final_answer(form.format(answer)).text == answer


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("He sold 48/2 = 24.\n#### 24", "24"),
        ("Thus $x = \\boxed{\\frac{3}{4}}$.", "\\frac{3}{4}"),
        ("The answer is blowing in the wind", "The answer is blowing in the wind"),
    ],
)
def test_a_reference_counts_as_a_whole_unless_it_is_marked(reference: str, answer: str) -> None:
    assert marked_answer(reference) == answer


def test_long_and_hostile_responses_take_no_time() -> None:
    for part in ("The answer ", "answer, a", "\\boxed{", "####", "not ", "  ", "<answer>", "{"):
        final_answer(part * 20_000)
