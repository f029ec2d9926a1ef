from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tiny_models import (
    TEMPLATE,
    byte_tokenizer,
    make_engine,
    merging_tokenizer,
    random_model,
    switch_config,
)

from langgraph_switch import ScriptedEngine, Segment, Switch, SwitchConfig, SwitchLLM, Trace
from langgraph_switch.candidates import Candidate
from langgraph_switch.config import GREEDY, Sampling
from langgraph_switch.engines.transformers_engine import TransformersEngine
from langgraph_switch.errors import ConfigError, ContextLengthError, ModelLoadError
from langgraph_switch.hub.save import save_switch
from langgraph_switch.loop import finish_traces
from langgraph_switch.queries import trace_from_query
from langgraph_switch.switchers.base import Turn
from langgraph_switch.switchers.head import HeadSwitcher
from langgraph_switch.switchers.head_model import HeadConfig, SwitcherHead, speaker_features

NAMES = ("a", "b", "c")
QUERIES = ("hello", "a longer question, this one", "you")
NO_ANCHOR = {"first": False, "last": False}


def head_config(**changes: Any) -> HeadConfig:
    fields = {"kind": "linear", "hidden_size": 48, "candidates": NAMES, "reads": "c", "model": "m"}
    return HeadConfig.model_validate(fields | changes)


def random_head(seed: int = 5, *, sharpness: float = 2.0, **changes: Any) -> SwitcherHead:
    """Return a head whose choices differ from boundary to boundary."""
    torch.manual_seed(seed)
    head = SwitcherHead(head_config(**changes))
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=sharpness / 7)
    head.mean, head.scale = torch.randn_like(head.mean), torch.rand_like(head.scale) + 0.5
    return head


def saved_head(folder: Path, **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    random_head(**changes).save(folder)
    return folder


def config_with(head: Path, **fields: Any) -> SwitchConfig:
    switcher = {"kind": "head", "head": str(head), "sampling": {"temperature": 0}}
    defaults: dict[str, Any] = {"switcher": switcher, "anchor": NO_ANCHOR}
    return switch_config(NAMES, **(defaults | fields))


def engines(**fields: Any) -> dict[str, Any]:
    return {name: make_engine(random_model(seed=i), **fields) for i, name in enumerate(NAMES)}


def answers(config: SwitchConfig, given: dict[str, Any], **rows: Any) -> list[Trace]:
    switch = Switch(config, engines=given)
    turns = [Turn(trace_from_query(query, config), f"row {i}") for i, query in enumerate(QUERIES)]
    return finish_traces(switch, turns, **rows)


def said(traces: list[Trace]) -> list[Any]:
    return [[(s.speaker, s.token_ids) for s in one.segments] for one in traces]


def trace(*texts: str, speakers: str = "abc") -> Trace:
    begun = trace_from_query("q", switch_config(NAMES))
    for number, text in enumerate(texts):
        begun = begun.append(
            Segment(
                speaker=speakers[number % 3],
                text=text,
                token_ids=(1,) * len(text),
                tokenizer="?",
                decided_by="switcher",
                finish_reason="length",
            )
        )
    return begun


def switcher(head: SwitcherHead, engine: Any, name: str = "c", **fields: Any) -> HeadSwitcher:
    config = switch_config(NAMES, **fields)
    candidate = Candidate(config.candidate(name), engine, config)
    return HeadSwitcher(candidate, head, NAMES, sampling=GREEDY)


@pytest.mark.parametrize("kind", ["linear", "mlp"])
@pytest.mark.parametrize("sees_speakers", [True, False])
def test_probabilities_are_the_heads_softmax_of_what_a_whole_pass_computes(
    kind: str, sees_speakers: bool
) -> None:
    model = random_model()
    head = random_head(kind=kind, hidden_units=5, sees_speakers=sees_speakers)
    traces = [trace("x"), trace("the", " dog"), trace("a", "b", "c")]
    found = switcher(head, make_engine(model)).probabilities(
        [Turn(one, str(i)) for i, one in enumerate(traces)]
    )
    encode = make_engine(model).tokenizer.encode
    for one, probabilities in zip(traces, found, strict=True):
        ids = list(encode("q"))
        for segment in one.segments:
            ids += encode(segment.text)
        with torch.inference_mode():
            state = model(torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0, -1]
            told = torch.tensor(speaker_features(one, NAMES) if sees_speakers else [])
            logits = head(torch.cat([state, told]).unsqueeze(0))[0]
        assert probabilities == pytest.approx(torch.softmax(logits, 0).tolist(), abs=1e-5)
        assert sum(probabilities) == pytest.approx(1)


@pytest.mark.parametrize("kv_cache_bytes", [60_000, 0])
def test_memory_changes_no_decision(tmp_path: Path, kv_cache_bytes: int) -> None:
    config = config_with(saved_head(tmp_path / "head"))
    remembered = answers(config, engines())
    forgotten = answers(config, engines(kv_cache_bytes=kv_cache_bytes))
    assert said(remembered) == said(forgotten)
    pairs = [
        (x.probabilities, y.probabilities)
        for one, other in zip(remembered, forgotten, strict=True)
        for x, y in zip(one.segments, other.segments, strict=True)
    ]
    assert len({x.speaker for one in remembered for x in one.segments}) == 3
    for x, y in pairs:
        assert x == pytest.approx(y, abs=1e-5)


def test_a_batch_decides_as_each_trace_alone(tmp_path: Path) -> None:
    config = config_with(saved_head(tmp_path / "head"))
    assert said(answers(config, engines())) == said(answers(config, engines(), live_traces=1))


def test_the_candidate_writes_what_it_would_write_unobserved(tmp_path: Path) -> None:
    """Everybody is the same model, so the response is plain greedy text, whoever speaks."""
    model = random_model()
    config = config_with(saved_head(tmp_path / "head"))
    written = answers(config, dict.fromkeys(NAMES, make_engine(model)))
    for one, query in zip(written, QUERIES, strict=True):
        ids = torch.tensor([make_engine(model).tokenizer.encode(query)])
        with torch.inference_mode():
            whole = model.generate(ids, max_new_tokens=60, do_sample=False, pad_token_id=0)
        assert [t for s in one.segments for t in s.token_ids] == whole[0, ids.shape[1] :].tolist()


def test_a_decision_leaves_the_candidate_one_token_to_compute(tmp_path: Path) -> None:
    config = config_with(saved_head(tmp_path / "head"))
    for one in answers(config, engines()):
        for segment in one.segments:
            if segment.speaker == "c":
                assert segment.prefill_tokens == 1


def test_rows_are_the_candidates_and_are_gone_in_the_end(tmp_path: Path) -> None:
    given = engines()
    config = config_with(saved_head(tmp_path / "head"))
    info = SwitchLLM(config=config, engines=given).generate(list(QUERIES)).generations[0][0]
    written = Trace.from_json((info.generation_info or {})["trace"])
    assert {one.decided_by for one in written.segments} == {"switcher"}
    assert all(engine.num_rows == 0 for engine in given.values())


def test_equal_prefixes_are_read_once_and_judged_by_who_wrote_them() -> None:
    engine = make_engine(random_model())
    seen: list[int] = []
    read = engine.last_hidden

    def counting(requests: Any) -> Any:
        seen.append(len(requests))
        return read(requests)

    engine.last_hidden = counting
    head = random_head()
    by_others = trace("xy", "z", speakers="cba")
    found = switcher(head, engine).probabilities(
        [Turn(trace("xy", "z"), "1"), Turn(by_others, "2"), Turn(trace("xy", "z"), "3")]
    )
    assert seen == [1]
    assert found[0] == found[2] != found[1]


def test_candidates_with_other_tokenizers_are_read_too(tmp_path: Path) -> None:
    given = engines()
    given["b"] = make_engine(random_model(seed=1, vocab_size=320), merging_tokenizer())
    config = config_with(saved_head(tmp_path / "head"))
    assert said(answers(config, given)) == said(answers(config, given, live_traces=1))


def test_a_chat_candidate_is_read_as_it_reads_itself(tmp_path: Path) -> None:
    given = engines()
    given["c"] = make_engine(random_model(seed=2), byte_tokenizer(TEMPLATE))
    candidates = [{"name": name, "model": name, "prompt": {"kind": "plain"}} for name in "ab"]
    candidates.append({"name": "c", "model": "c", "prompt": {"kind": "chat"}})
    config = config_with(saved_head(tmp_path / "head"), candidates=candidates)
    for one in answers(config, given):
        assert all(s.prefill_tokens == 1 for s in one.segments if s.speaker == "c")


def test_what_a_head_is_told_of_speakers() -> None:
    told = speaker_features(trace("xx", "y", "z"), NAMES)
    assert told == pytest.approx([0, 0, 1, 0.5, 0.25, 0.25, 4 / 60, 1.3862944])
    assert speaker_features(trace(), NAMES) == [0] * 8
    assert len(told) == head_config().num_features


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_a_saved_head_decides_exactly_as_before(tmp_path: Path, kind: str) -> None:
    head = random_head(kind=kind, hidden_units=4)
    head.save(tmp_path)
    loaded = SwitcherHead.load(str(tmp_path))
    assert loaded.config == head.config
    turns = [Turn(trace("x", "yz"), "1"), Turn(trace("w"), "2")]
    before = switcher(head, make_engine(random_model())).probabilities(turns)
    assert switcher(loaded, make_engine(random_model())).probabilities(turns) == before


def test_a_saved_switch_carries_its_head(tmp_path: Path) -> None:
    config = config_with(saved_head(tmp_path / "head"))
    folder = save_switch(config, tmp_path / "switch")
    kept = SwitchConfig.load(folder)
    assert kept.to_dict()["switcher"]["head"] == "./head"
    assert said(answers(kept, engines())) == said(answers(config, engines()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"candidates": ("b", "a", "c")}, r"trained for b, a, c, in this order; here are a, b, c"),
        ({"candidates": ("a", "c")}, r"trained for a, c"),
        ({"reads": "a"}, r"trained on the hidden state of 'a', not of 'c'"),
        ({"hidden_size": 64}, r"hidden states of 64 numbers \(those of 'm'\).*'c' has 48"),
    ],
)
def test_a_head_made_for_others_is_refused(tmp_path: Path, changes: Any, message: str) -> None:
    head = saved_head(tmp_path / "head", **changes)
    with pytest.raises(ConfigError, match=message) as caught:
        Switch(config_with(head), engines=engines())
    assert caught.value.hint


def test_an_order_that_the_switch_json_notes_is_checked_before_anything_is_loaded() -> None:
    known = [{"name": name, "model": name} for name in "bac"]
    switcher = {"kind": "head", "head": "user/head", "trained_on": known}
    with pytest.raises(ConfigError, match="trained for b, a, c, in this order"):
        switch_config(NAMES, switcher=switcher)
    with pytest.raises(ConfigError, match="no candidate is named 'd'"):
        switch_config(NAMES, switcher={"kind": "head", "head": "x", "candidate": "d"})


def test_an_engine_without_hidden_states_is_refused(tmp_path: Path) -> None:
    given = engines() | {"c": ScriptedEngine()}
    with pytest.raises(ConfigError, match=r"hidden states of 'c'.*ScriptedEngine\) shows none"):
        Switch(config_with(saved_head(tmp_path / "head")), engines=given)


def test_damaged_or_missing_files_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="there is no such folder"):
        SwitcherHead.load(str(tmp_path / "none"))
    with pytest.raises(ModelLoadError, match=r"there is no head\.json"):
        SwitcherHead.load(str(tmp_path))
    head = saved_head(tmp_path / "head")
    save_file({"mean": torch.zeros(3)}, head / "head.safetensors")
    with pytest.raises(ModelLoadError, match=r"head\.safetensors does not fit"):
        SwitcherHead.load(str(head))
    (head / "head.safetensors").write_bytes(b"cut")
    with pytest.raises(ModelLoadError, match="or is damaged"):
        SwitcherHead.load(str(head))
    data = json.loads((head / "head.json").read_text()) | {"kind": "tree"}
    (head / "head.json").write_text(json.dumps(data))
    with pytest.raises(ConfigError, match=r"(?s)Invalid switcher head in .*kind"):
        SwitcherHead.load(str(head))


def test_a_head_outside_of_the_switch_s_folder_is_refused(tmp_path: Path) -> None:
    config = config_with(saved_head(tmp_path / "head"))
    data = config.to_dict()
    data["switcher"]["head"] = "./../head"
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "switch.json").write_text(json.dumps(data))
    with pytest.raises(ConfigError, match="outside of its folder"):
        SwitchConfig.load(tmp_path / "s")


def test_a_response_too_long_for_the_candidate_is_refused() -> None:
    small = make_engine(random_model(max_position_embeddings=32))
    with pytest.raises(ContextLengthError):
        switcher(random_head(), small).check(trace())


def test_a_decision_is_drawn_as_the_spec_says(tmp_path: Path) -> None:
    head = saved_head(tmp_path / "head")
    spec = {"kind": "head", "head": str(head), "candidate": "c"}
    switch = Switch(switch_config(NAMES, switcher=spec), engines=engines())
    assert switch.switcher.sampling == Sampling(temperature=1, top_p=0.9)
    assert isinstance(switch.candidates["c"].engine, TransformersEngine)
