from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rollout_program import SETTINGS, make_job, make_switch, make_task, share_of_low_letters
from tiny_models import Recital, switch_config

from langgraph_switch import ScriptedEngine, Switch, Trace
from langgraph_switch.errors import ConfigError, InputError
from langgraph_switch.loop import finish_traces
from langgraph_switch.offline.collect import collect_rollouts, prepare_rollouts
from langgraph_switch.offline.completers import EpsilonSwitcher
from langgraph_switch.offline.responses import respond
from langgraph_switch.offline.rollout import build_rollout_graph, cut_prefix
from langgraph_switch.offline.settings import RolloutSettings
from langgraph_switch.offline.shards import read_manifest
from langgraph_switch.scoring import FunctionScore
from langgraph_switch.seeds import derive_seed
from langgraph_switch.switchers.base import Turn
from langgraph_switch.switchers.simple import FixedSwitcher


def collected(folder: Path, **changes: Any) -> list[dict[str, Any]]:
    job = make_job(folder, SETTINGS.model_copy(update=changes))
    collect_rollouts(job)
    return list(job.shards.rows())


def test_every_candidate_has_exactly_k_completions_and_the_best_mean_is_the_label(
    tmp_path: Path,
) -> None:
    rows = collected(tmp_path / "rows")
    assert [row["query_id"] for row in rows] == [f"q{i}" for i in range(5)]
    for row in rows:
        assert [len(scores) for scores in row["scores"]] == [4, 4, 4]
        assert row["means"] == pytest.approx([sum(s) / 4 for s in row["scores"]])
        assert row["means"][row["label"]] == max(row["means"])
        assert row["completer"] == "random"
        assert row["num_failed_scores"] == 0
        assert row["config_hash"] == read_manifest(tmp_path / "rows")["config_hash"]
        assert row["versions"].startswith("langgraph-switch 0.")


def test_a_prefix_is_a_beginning_of_a_random_switch_response(tmp_path: Path) -> None:
    job = make_job(tmp_path / "rows")
    collect_rollouts(job)
    whole = respond(job.switch, job.examples, job.score, seed=SETTINGS.seed)
    cuts = set()
    for row, response in zip(job.shards.rows(), whole, strict=True):
        prefix = Trace.from_json(json.loads(row["prefix"]))
        texts = [segment.text for segment in response.trace.segments]
        assert [segment.text for segment in prefix.segments] == texts[: len(prefix.segments)]
        assert prefix.segments, "the anchor opens, so the switcher is asked behind it"
        assert not prefix.is_finished
        assert 0.1 <= row["cut"] <= 0.9
        longest = max(row["cut"] * response.trace.num_tokens, len(prefix.segments[0].token_ids))
        assert prefix.num_tokens <= longest
        cuts.add(row["cut"])
    assert len(cuts) == 5, "a cut is drawn per query"


def test_batched_and_forked_completions_equal_lonely_ones(tmp_path: Path) -> None:
    job = make_job(tmp_path / "rows")
    collect_rollouts(job)
    row = next(iter(job.shards.rows()))
    prefix = Trace.from_json(json.loads(row["prefix"]))
    for candidate, name in enumerate("abc"):
        lonely = make_switch().with_switcher(job.switch.switcher)
        opening = lonely.with_switcher(FixedSwitcher("abc", [name]))
        begun = one_segment(opening, prefix)
        for number, score in enumerate(row["scores"][candidate]):
            seed = derive_seed(prefix.seed, prefix.trace_id, number, f"completion {candidate}")
            (ended,) = finish_traces(lonely, [Turn(replace(begun, seed=seed), "alone")])
            answer = job.examples[0].answer(ended.text)
            assert share_of_low_letters(answer) == score


def one_segment(switch: Switch, trace: Trace) -> Trace:
    """Return a trace with the fixed speaker's next segment, whatever the anchors say."""
    turns = [Turn(trace, "begin")]
    speaker = switch.config.names[switch.switcher.probabilities(turns)[0].index(1.0)]
    anchor_free = make_switch(anchor={"first": False, "last": False}).with_switcher(switch.switcher)
    decisions = anchor_free.decide(turns)
    assert decisions[0].speaker == speaker
    (draft,) = anchor_free.write(speaker, turns, decisions)
    return switch.append(trace, draft)


def test_the_candidate_that_helps_becomes_the_label(tmp_path: Path) -> None:
    config = switch_config(max_tokens=21, segment={"max_tokens": 7}, anchor={"last": False})
    texts = {"a": "aaaaaaa" * 3, "b": "bbbbbbb" * 3, "c": "ccccccc" * 3}
    engines = {name: Chorus(text) for name, text in texts.items()}
    task = make_task(6).with_score(
        FunctionScore(lambda answer: float(answer.response[7:14] == "b" * 7))
    )
    job = prepare_rollouts(
        config, task, out=tmp_path, settings=RolloutSettings(completions=3, max_cut=0.3,
        min_cut=0.2), switch=Switch(config, engines=engines),
    )  # fmt: skip
    found = collect_rollouts(job)
    assert found.summary["labels"] == {"a": 0, "b": 6, "c": 0}
    assert found.summary["ties"] == 0


class Chorus(Recital):
    """Recites its own letter from wherever the response stands."""

    def _tokens(self, text: str, request: Any) -> Any:
        del text, request
        return iter(self._data)


def test_early_stopping_keeps_every_label_and_saves_completions(tmp_path: Path) -> None:
    whole = collected(tmp_path / "whole", completions=8)
    saving = collected(tmp_path / "early", completions=8, early_stop=True)
    assert [row["label"] for row in saving] == [row["label"] for row in whole]
    assert sum(r["num_completions"] for r in saving) <= sum(r["num_completions"] for r in whole)
    for row, all_of_it in zip(saving, whole, strict=True):
        for some, full in zip(row["scores"], all_of_it["scores"], strict=True):
            assert some == full[: len(some)]


def test_early_stopping_refuses_scores_beyond_its_rule(tmp_path: Path) -> None:
    settings = RolloutSettings(completions=4, early_stop=True)
    task = make_task(2).with_score(FunctionScore(lambda answer: 10.0 + len(answer.response)))
    switch = make_switch()
    job = prepare_rollouts(switch.config, task, out=tmp_path, settings=settings, switch=switch)
    with pytest.raises(ConfigError, match="scores from 0 to 1"):
        collect_rollouts(job)


def test_a_score_that_fails_marks_its_row_and_loses_nothing(tmp_path: Path) -> None:
    def judge(answer: Any) -> float:
        if "question 1" in answer.query:
            raise ValueError("no opinion")
        return share_of_low_letters(answer)

    switch = make_switch()
    task = make_task().with_score(FunctionScore(judge))
    job = prepare_rollouts(switch.config, task, out=tmp_path, settings=SETTINGS, switch=switch)
    found = collect_rollouts(job)
    rows = list(job.shards.rows())
    assert [row["label"] == -1 for row in rows] == [False, True, False, False, False]
    assert rows[1]["num_failed_scores"] == 12
    assert "no opinion" in rows[1]["error"]
    assert found.summary["failed"] == 1
    assert found.summary["failed_scores"] == 12


def test_the_same_folder_refuses_another_run_and_says_what_differs(tmp_path: Path) -> None:
    collected(tmp_path)
    with pytest.raises(ConfigError, match=r"settings\.completions: 4 there, 5 now") as info:
        make_job(tmp_path, SETTINGS.model_copy(update={"completions": 5}))
    assert "--out" in info.value.hint
    switch = make_switch(anchor={"candidate": "a"})
    with pytest.raises(ConfigError, match="config"):
        prepare_rollouts(switch.config, make_task(), out=tmp_path, settings=SETTINGS, switch=switch)
    other = make_switch()
    renamed = other.config.with_changes(candidates=tuple(reversed(other.config.candidates)))
    with pytest.raises(ConfigError, match="candidates"):
        prepare_rollouts(renamed, make_task(), out=tmp_path, settings=SETTINGS, switch=other)


def test_a_broken_shard_is_made_again(tmp_path: Path) -> None:
    rows = collected(tmp_path)
    shard = tmp_path / "shard-00001.parquet"
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    (tmp_path / "shard-00009.tmp").write_bytes(b"half")
    assert collected(tmp_path) == rows
    assert not list(tmp_path.glob("*.tmp"))


def test_asking_for_more_queries_than_there_are_is_an_error(tmp_path: Path) -> None:
    switch = make_switch()
    with pytest.raises(InputError, match="has 5") as info:
        prepare_rollouts(switch.config, make_task(), out=tmp_path, queries=9, switch=switch)
    assert "--queries 5" in info.value.hint


def test_the_switcher_completes_only_if_there_is_one(tmp_path: Path) -> None:
    switch = make_switch()
    settings = RolloutSettings(completer="switcher")
    with pytest.raises(ConfigError, match="need a trained one"):
        prepare_rollouts(switch.config, make_task(), out=tmp_path, settings=settings, switch=switch)


@pytest.mark.parametrize("completer", ["random", "anchored"])
def test_completers_stray_as_often_as_they_say(
    tmp_path: Path, completer: str, record: Callable[[str, object], None]
) -> None:
    settings = RolloutSettings(completer=completer, epsilon=0.3)
    switch = make_switch()
    job = prepare_rollouts(
        switch.config, make_task(), out=tmp_path, settings=settings, switch=switch
    )
    trace = Trace(messages=make_task().split("train")[0].messages, trace_id="t", seed=0,
                  max_tokens=9)  # fmt: skip
    (found,) = job.switch.switcher.probabilities([Turn(trace, "row")])
    record("probabilities", found)
    expected = (1 / 3,) * 3 if completer == "random" else (0.1, 0.1, 0.8)
    assert found == pytest.approx(expected)


@pytest.fixture
def record(record_property: Callable[[str, object], None]) -> Callable[[str, object], None]:
    return record_property


def test_epsilon_is_a_probability() -> None:
    with pytest.raises(ConfigError, match="epsilon is a probability"):
        EpsilonSwitcher(FixedSwitcher("ab", ["a"]), 2, epsilon=1.5)


def test_a_prefix_without_an_anchor_may_be_empty() -> None:
    trace = respond(make_switch(), make_task(1).split("train"), make_task().score, seed=0)[0].trace
    assert cut_prefix(trace, 0.1, opens=False).segments == ()
    assert len(cut_prefix(trace, 0.1, opens=True).segments) == 1
    assert len(cut_prefix(trace, 0.9, opens=False).segments) == 5


def test_the_graph_shows_its_steps_without_loading_anything() -> None:
    def never() -> Any:
        raise AssertionError

    picture = build_rollout_graph(never).get_graph().draw_mermaid()
    for edge in ("prefix --> branch", "branch --> complete", "complete --> store"):
        assert edge in picture
    assert ScriptedEngine  # The double of the tests above.
