from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tiny_models import (
    byte_tokenizer,
    make_engine,
    merging_tokenizer,
    metaspace_tokenizer,
    random_model,
    switch_config,
)

from langgraph_switch import ScriptedEngine, Segment, Switch, SwitchLLM, Trace
from langgraph_switch.config import Sampling
from langgraph_switch.errors import ContextLengthError
from langgraph_switch.queries import trace_from_query
from langgraph_switch.switchers.base import Turn
from langgraph_switch.switchers.lm import LMSwitcher

TWELVE = tuple("abcdefghijkl")
TOKENIZERS: dict[str, Any] = {
    "bytes": byte_tokenizer,
    "merging": merging_tokenizer,
    "metaspace": metaspace_tokenizer,
}


def trace(query: str, *texts: str) -> Trace:
    begun = trace_from_query(query, switch_config(TWELVE))
    for number, text in enumerate(texts):
        segment = Segment(
            speaker=TWELVE[number % 12],
            text=text,
            token_ids=(1,),
            tokenizer="?",
            decided_by="switcher",
            finish_reason="length",
        )
        begun = begun.append(segment)
    return begun


def lm(engine: Any, names: Any = TWELVE) -> LMSwitcher:
    return LMSwitcher(engine, names, sampling=Sampling(temperature=1), segment_tokens=7)


def brute_force(engine: Any, prompt: str, names: Any) -> list[float]:
    """Score every label by its own forward pass over the whole prompt's text."""
    module, encode = engine._shared.module, engine.tokenizer.encode
    whole = [encode(f"{prompt}{number}") for number in range(len(names))]
    num_shared = next(i for i in range(len(whole[0])) if len({ids[: i + 1] for ids in whole}) > 1)
    num_shared = min(num_shared, *(len(ids) - 1 for ids in whole))
    scores = []
    for ids in whole:
        with torch.inference_mode():
            steps = torch.log_softmax(module(torch.tensor([ids])).logits[0].double(), dim=-1)
        score = sum(float(steps[i - 1, ids[i]]) for i in range(num_shared, len(ids)))
        longer = {one[len(ids)] for one in whole if len(one) > len(ids) and one[: len(ids)] == ids}
        going_on = sum(math.exp(float(steps[-1, token])) for token in longer)
        scores.append(math.exp(score) * (1 - going_on))
    return [score / sum(scores) for score in scores]


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("names", [TWELVE[:2], TWELVE[:3], TWELVE])
def test_probabilities_equal_a_brute_force_scoring(kind: str, names: Any) -> None:
    engine = make_engine(random_model(vocab_size=450), TOKENIZERS[kind]())
    switcher = lm(engine, names)
    traces = [trace("the cat and"), trace("sat", " in the house"), trace("x", "the", " dog")]
    found = switcher.probabilities([Turn(one, str(i)) for i, one in enumerate(traces)])
    for one, probabilities in zip(traces, found, strict=True):
        assert sum(probabilities) == pytest.approx(1)
        if kind == "bytes":  # Elsewhere pieces are tokenised one by one, text only as a whole.
            expected = brute_force(engine, switcher._prompt.render(one), names)
            assert probabilities == pytest.approx(expected, abs=1e-5)
        alone = lm(engine, names).probabilities([Turn(one, "alone")])[0]
        engine.release(["alone#switcher"])
        assert probabilities == pytest.approx(alone, abs=1e-5)


def test_only_what_is_new_is_computed() -> None:
    model = random_model()
    widths: list[int] = []
    forward = model.forward

    def noting(**kwargs: Any) -> Any:
        widths.append(kwargs["input_ids"].shape[1])
        return forward(**kwargs)

    model.forward = noting
    switcher = lm(make_engine(model), "abc")
    switcher.probabilities([Turn(trace("q" * 50, "x" * 40), "row")])
    switcher.probabilities([Turn(trace("q" * 50, "x" * 40, "y" * 5), "row")])
    question = len(switcher._prompt.labels.question)
    block = len(" <model 1 begins> yyyyy <model 1 ends>")
    assert widths[0] > 90 + question
    assert widths[1] <= block + question < widths[0]


def test_twelve_candidates_take_turns() -> None:
    model = random_model()
    engines = {name: make_engine(model) for name in TWELVE}
    config = switch_config(
        TWELVE, switcher={"kind": "lm", "candidate": "a"}, segment={"max_tokens": 2}, seed=4
    )
    result = SwitchLLM(config=config, engines=engines).generate(["hello", "you"])
    found = [Trace.from_json((row[0].generation_info or {})["trace"]) for row in result.generations]
    decided = [s for one in found for s in one.segments if s.decided_by == "switcher"]
    assert len({segment.speaker for segment in decided}) > 3
    for segment in decided:
        assert segment.probabilities is not None
        assert len(segment.probabilities) == 12
        assert sum(segment.probabilities) == pytest.approx(1)
    assert all(engine.num_rows == 0 for engine in engines.values())


def test_a_switcher_too_short_for_the_whole_response_says_what_to_set() -> None:
    engines: dict[str, Any] = {name: ScriptedEngine() for name in "ab"}
    engines["switcher"] = ScriptedEngine(max_context_tokens=300, name="small")
    config = switch_config("ab", switcher={"kind": "lm", "model": "small"}, max_tokens=30)
    switch = Switch(config, engines=engines)
    switch.check(trace_from_query({"query": "q", "max_tokens": 7}, config))
    with pytest.raises(ContextLengthError, match="'switcher small' needs") as caught:
        switch.check(trace_from_query("q", config))
    assert "lengthen segment.max_tokens" in caught.value.hint
    assert caught.value.max_tokens == 300


def test_the_switchers_engine_is_the_given_one_or_that_of_its_candidate() -> None:
    engines: dict[str, Any] = {name: ScriptedEngine() for name in "ab"}
    on_candidate = switch_config("ab", switcher={"kind": "lm", "candidate": "a"})
    switcher = Switch(on_candidate, engines=engines).switcher
    assert isinstance(switcher, LMSwitcher)
    assert switcher.engine is engines["a"]
    engines["switcher"] = ScriptedEngine()
    switcher = Switch(on_candidate, engines=engines).switcher
    assert isinstance(switcher, LMSwitcher)
    assert switcher.engine is engines["switcher"]
