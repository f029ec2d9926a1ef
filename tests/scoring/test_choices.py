from __future__ import annotations

import pytest
from rows import answered

from langgraph_switch.scoring import score_answers
from langgraph_switch.scoring.choices import MultipleChoice, chosen_letter

CITIES = ("Rome", "Paris", "Paris, Texas")
ANIMALS = ("cat", "dog", "bird")
YES_NO = ("Yes", "No")

CHOSEN = [
    # a letter alone
    ("B", CITIES, "B"),
    ("b)", CITIES, "B"),
    ("(b)", CITIES, "B"),
    ("**B.**", CITIES, "B"),
    ("B. Paris", CITIES, "B"),
    ("B: because it is", CITIES, "B"),
    ("Rome is in Italy.\n\nB", CITIES, "B"),
    # a stated letter
    ("The answer is B.", CITIES, "B"),
    ("The answer is (b)", CITIES, "B"),
    ("answer: b", CITIES, "B"),
    ("Answer: B - Paris", CITIES, "B"),
    ("The answer is **(B) Paris**", CITIES, "B"),
    ("The answer is 'B'", CITIES, "B"),
    ("The answer is option B", CITIES, "B"),
    ("\\boxed{B}", CITIES, "B"),
    ("\\boxed{\\text{(B) Paris}}", CITIES, "B"),
    ("The answer is A because it is", CITIES, "A"),
    ("The answer is A", CITIES, "A"),
    ("A. Rome\nB. Paris\nC. Paris, Texas\nThe answer is B.", CITIES, "B"),
    ("The answer is A. No, wait: the answer is B.", CITIES, "B"),
    # in words
    ("Option B is correct", CITIES, "B"),
    ("B is the right answer", CITIES, "B"),
    ("(A) is wrong, (B) is right", CITIES, "B"),
    ("I choose B.", CITIES, "B"),
    ("Of these, I would go with A.", CITIES, "A"),
    ("It's B.", CITIES, "B"),
    ("The right one must be (B), I am sure.", CITIES, "B"),
    # articles and pronouns
    ("The answer is A dog.", ANIMALS, "B"),
    ("A dog is an animal.", ANIMALS, "B"),
    ("The answer is a dog", ANIMALS, "B"),
    ("The answer is A cat.", ANIMALS, "A"),
    ("I think it is a bird", ANIMALS, "C"),
    # denials
    ("The answer is not B but C.", CITIES, "C"),
    ("The answer is C, not B.", CITIES, "C"),
    ("Option B is not correct.", CITIES, None),
    ("It is not Paris.", CITIES, None),
    ("It is Rome rather than Paris.", CITIES, "A"),
    ("No, it is not.", YES_NO, "B"),
    ("The answer is not enough information", ("Yes", "Not enough information"), "B"),
    # an option's text
    ("It is Paris.", CITIES, "B"),
    ("It is Paris, Texas.", CITIES, "C"),
    ("The answer is Paris", CITIES, "B"),
    ("The answer is No. I am your father.", ("Luke.", "No. I am your father."), "B"),
    ("The answer is It grows because it rains.", ("It grows because it rains.", "No"), "A"),
    ("$-48^{\\circ}$", ("$48^{\\circ}$", "$-48^{\\circ}$"), "B"),
    ("Yes, there is no doubt.", YES_NO, "A"),
    # unclear
    ("Rome, Paris", CITIES, None),
    ("The answer is (a) or (b)", CITIES, None),
    ("A or B", CITIES, None),
    ("The answer is A or B", CITIES, None),
    ("both A and C", CITIES, None),
    ("A, B and C are wrong", CITIES, None),
    ("(A) Rome\n(B) Paris", CITIES, None),
    ("Rome or Paris", CITIES, None),
    ("The answer is D.", CITIES, None),
    ("I do not know.", CITIES, None),
    ("", CITIES, None),
    # without the options' texts
    ("The answer is (D).", (), "D"),
    ("The answer is (D) green.", (), "D"),
    ("Paris", (), None),
]


@pytest.mark.parametrize(("response", "choices", "letter"), CHOSEN)
def test_the_chosen_option(response: str, choices: tuple[str, ...], letter: str | None) -> None:
    assert chosen_letter(response, choices) == letter


def test_the_right_option_scores_one_and_others_zero() -> None:
    answers = [answered(one, "B", choices=CITIES) for one in ("B", "The answer is Rome.", "?")]
    results = score_answers(MultipleChoice(), answers)
    assert [result.value for result in results] == [1, 0, 0]
    assert [result.answer for result in results] == ["B", "A", None]


@pytest.mark.parametrize("references", [(), ("Z",), ("Paris",)])
def test_a_question_without_a_right_option_is_marked(references: tuple[str, ...]) -> None:
    (result,) = score_answers(MultipleChoice(), [answered("B", *references, choices=CITIES)])
    assert result.value is None
    assert "A to C" in str(result.error)
