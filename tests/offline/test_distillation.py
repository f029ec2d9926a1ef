from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import greedy
from transformers import AutoModelForCausalLM

from langgraph_switch import Switch
from langgraph_switch.config import Sampling
from langgraph_switch.errors import ConfigError, InputError
from langgraph_switch.families import family_config
from langgraph_switch.offline.distillation import (
    AFTER,
    DistillationJob,
    DistillSettings,
    build_distillation_graph,
    choose_responses,
    distill_switch,
    distillation_row,
)
from langgraph_switch.offline.responses import Response, fresh_trace, respond
from langgraph_switch.offline.sft_settings import SftSettings
from langgraph_switch.solo import solo
from langgraph_switch.switchers.base import Turn
from langgraph_switch.tasks import load_task

TASK = load_task("tiny/compose")
SHORT = DistillSettings(queries=12, questions=4, batch_questions=8)
TRAINING = SftSettings(epochs=2, batch_size=4, save_steps=2)


@pytest.fixture(scope="module")
def switch() -> Switch:
    return Switch(family_config("tiny"))


def job(switch: Switch, out: Path, **changes: Any) -> DistillationJob:
    settings = SHORT.model_copy(update=changes)
    return DistillationJob(switch=switch, task=TASK, out=out, settings=settings, training=TRAINING)


@pytest.fixture(scope="module")
def done(switch: Switch, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("runs") / "distilled"
    return out, distill_switch(job(switch, out))


@pytest.fixture(scope="module")
def responses(switch: Switch) -> list[Response]:
    return respond(switch, TASK.split("train")[:3], TASK.score, seed=0)


def test_a_row_teaches_the_response_behind_the_anchors_own_prompt(
    switch: Switch, responses: list[Response]
) -> None:
    response = responses[0]
    row = distillation_row(switch, response)
    alone = solo(switch, "aligned")
    trace = fresh_trace(alone, TASK.split("train")[0], seed=0)
    asked = alone.candidates["aligned"].request(Turn(trace, "r"), max_new_tokens=1)
    written = [token for one in response.trace.segments for token in one.token_ids]
    prompt = list(asked.prefix)
    assert row["input_ids"] == [*prompt, *written, asked.eos_token_ids[0]]
    assert row["labels"] == [-100] * len(prompt) + row["input_ids"][len(prompt) :]


def test_a_response_that_was_cut_off_teaches_no_end(
    switch: Switch, responses: list[Response]
) -> None:
    whole = responses[0]
    cut = Response(example_id="x", trace=whole.trace.finish("length"), score=1.0)
    assert (
        distillation_row(switch, cut)["input_ids"]
        == (distillation_row(switch, whole)["input_ids"][:-1])
    )


def scored(name: str, score: float | None) -> Response:
    trace = fresh_trace(
        Switch(family_config("tiny")), TASK.split("train")[0], seed=0
    ) if name == "never" else None  # fmt: skip
    return Response(example_id=name, trace=trace, score=score)  # type: ignore[arg-type]


def test_the_best_response_to_each_question_is_chosen_if_it_is_good_enough() -> None:
    found = [scored("a", 0.2), scored("a", 0.9), scored("b", None), scored("b", 0.1),
             scored("c", None)]  # fmt: skip
    best = choose_responses(found, min_score=None)
    assert [(one.example_id, one.score) for one in best] == [("a", 0.9), ("b", 0.1), ("c", None)]
    good = choose_responses(found, min_score=0.5)
    assert [(one.example_id, one.score) for one in good] == [("a", 0.9)]


def test_the_result_is_a_plain_model_that_answers_as_measured(
    switch: Switch, done: tuple[Path, dict[str, Any]]
) -> None:
    out, report = done
    model = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32).eval()
    assert not [file for file in out.rglob("*") if file.suffix in {".bin", ".pt", ".pkl"}]
    alone = solo(switch, "aligned")
    examples = job(switch, out).test_examples
    answers = []
    for example in examples:
        trace = fresh_trace(alone, example, seed=0)
        request = alone.candidates["aligned"].request(Turn(trace, "r"), max_new_tokens=96)
        tokens = greedy(model, list(request.prefix), 60)
        eos = request.eos_token_ids[0]
        tokens = tokens[: tokens.index(eos)] if eos in tokens else tokens
        answers.append(alone.candidates["aligned"].engine.tokenizer.decode(tokens))
    scores = [one.value for one in TASK.judge(examples, answers)]
    assert report["scores"][AFTER]["mean"] == pytest.approx(sum(s or 0 for s in scores) / 4)


def test_splits_are_recorded_and_apart(done: tuple[Path, dict[str, Any]]) -> None:
    _, report = done
    assert report["provenance"]["task"]["split"] == "train"
    assert report["test"]["split"] == "test"
    assert report["counts"] == {"queries": 12, "responses": 12, "learned_from": 12}


def test_a_finished_run_is_returned_and_something_else_refused(
    switch: Switch, done: tuple[Path, dict[str, Any]]
) -> None:
    out, report = done

    def refuse(_: object) -> None:
        raise AssertionError("nothing is to be done")

    assert distill_switch(job(switch, out), on_event=refuse) == report
    with pytest.raises(ConfigError, match="holds something else"):
        distill_switch(job(switch, out, seed=9))


def test_interrupted_and_continued_it_comes_to_the_same_weights(
    switch: Switch, done: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    class Stop(Exception):  # noqa: N818 - an interruption, no error
        pass

    def stop_at(kind: str) -> Any:
        def listen(event: dict[str, Any]) -> None:
            if event["type"] == kind and event.get("step", 4) >= 4:
                raise Stop

        return listen

    out = tmp_path / "distilled"
    for kind in ("answered", "step"):
        with pytest.raises(Stop):
            distill_switch(job(switch, out), on_event=stop_at(kind))
        assert not out.exists()
    distill_switch(job(switch, out))
    ours, whole = load_file(out / "model.safetensors"), load_file(done[0] / "model.safetensors")
    assert all(torch.equal(ours[name], whole[name]) for name in whole)
    assert not job(switch, out).work.exists()


def test_the_best_of_several_equal_answers_is_refused(switch: Switch, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="The switch is greedy"):
        job(switch, tmp_path, best_of=3)
    config = family_config("tiny").with_changes(sampling=Sampling(temperature=0.7))
    engines = {name: one.engine for name, one in switch.candidates.items()}
    sampled = Switch(config, engines=engines, switcher=switch.switcher)
    assert len(job(sampled, tmp_path, best_of=3).batches()) == 6


def test_nothing_good_enough_is_said(switch: Switch, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="good enough to learn from"):
        distill_switch(job(switch, tmp_path / "out", min_score=2.0))


def test_the_graph_shows_its_steps_without_loading_anything() -> None:
    def never() -> Any:
        raise AssertionError

    picture = build_distillation_graph(never).get_graph().draw_mermaid()
    assert "train --> measure" in picture
    assert "measure --> save" in picture
