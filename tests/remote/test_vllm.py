"""Real vLLM servers on loopback: they write what this process writes (make test-vllm)."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from langgraph_switch import SwitchConfig, SwitchLLM, Trace
from langgraph_switch.engines.base import GenerateRequest, LabelRequest
from langgraph_switch.engines.openai_engine import OpenAIEngine, make_openai_engine
from langgraph_switch.errors import ConfigError, ContextLengthError, EngineError
from langgraph_switch.families import embedded_config
from langgraph_switch.server_processes import RunningServer, running_servers
from langgraph_switch.serving import ServeOptions, plan_servers

# ruff: noqa: T201 - the hit rate is shown
pytestmark = [pytest.mark.vllm, pytest.mark.enable_socket]

ROOT = Path(__file__).resolve().parents[2]
PYTHON = os.environ.get("SWITCH_VLLM_PYTHON", str(ROOT / ".venv-vllm" / "bin" / "python"))
KEY = "sk-local-0123456789"
QUESTIONS = [
    "How many legs does a spider have?",
    "How many legs do 3 spiders and 2 cats have in total?",
    "What is 12 + 7?",
    "What can a cat do?",
]


@dataclass
class Served:
    local: SwitchConfig
    remote: SwitchConfig
    servers: list[RunningServer]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve two of the embedded family's checkpoints, and a LoRA switcher on one of them."""
    if not Path(PYTHON).exists():
        pytest.fail(f"there is no vLLM at {PYTHON}: run `make test-vllm`, which installs it")
    family = embedded_config().with_absolute_models()
    folder = tmp_path_factory.mktemp("vllm")
    local = SwitchConfig.from_dict(
        {
            "candidates": [family.candidate(n).model_dump() for n in ("pretrained", "aligned")],
            "switcher": {
                "kind": "lm",
                "candidate": "aligned",
                "adapter": str(save_adapter(family, folder / "adapter")),
                "sampling": {"temperature": 1, "top_p": 1},
            },
            "segment": {"max_tokens": 6},
            "max_tokens": 48,
            "sampling": {"temperature": 0, "top_p": 1},
            "seed": 5,
        }
    )
    options = ServeOptions(
        first_port=free_ports(2), on_cpu=True, python=PYTHON, api_key_env="SWITCH_TEST_KEY"
    )
    plan = plan_servers(local, options)
    quiet = {
        "SWITCH_TEST_KEY": KEY,
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "OMP_NUM_THREADS": "1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in quiet.items():
            patch.setenv(name, value)
        with running_servers(plan.servers, folder / "logs", timeout_s=300) as servers:
            yield Served(local, plan.config, servers)


def save_adapter(family: SwitchConfig, folder: Path) -> Path:
    """Save an adapter of random weights, strong enough to change who speaks."""
    model = AutoModelForCausalLM.from_pretrained(
        family.resolve_model(family.candidate("aligned").model), dtype=torch.float32
    )
    torch.manual_seed(3)
    config = LoraConfig(
        r=8,
        lora_alpha=16,
        target_modules=["q_proj", "v_proj", "down_proj"],
        init_lora_weights=False,
        task_type="CAUSAL_LM",
    )
    get_peft_model(model, config).save_pretrained(folder)
    return folder


def free_ports(number: int) -> int:
    """Return the first of a few free ports in a row."""
    for first in range(21_000, 29_000, 16):
        sockets = [socket.socket() for _ in range(number)]
        try:
            for offset, one in enumerate(sockets):
                one.bind(("127.0.0.1", first + offset))
        except OSError:
            continue
        else:
            return first
        finally:
            for one in sockets:
                one.close()
    pytest.fail("no free ports")


def traces(llm: SwitchLLM, **options: Any) -> list[Trace]:
    result = llm.generate(QUESTIONS, **options)
    return [Trace.from_json((one[0].generation_info or {})["trace"]) for one in result.generations]


def test_switching_between_servers_writes_what_this_process_writes(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    local, remote = SwitchLLM(config=served.local), SwitchLLM(config=served.remote)
    expected, found = traces(local), traces(remote)
    assert len({segment.speaker for one in expected for segment in one.segments}) == 2
    for ours, theirs in zip(expected, found, strict=True):
        assert theirs.text == ours.text
        for a, b in zip(ours.segments, theirs.segments, strict=True):
            assert (a.speaker, a.token_ids, a.finish_reason) == (
                b.speaker,
                b.token_ids,
                b.finish_reason,
            )
            if a.probabilities:
                assert b.probabilities == pytest.approx(a.probabilities, abs=1e-4)
    again = traces(remote)
    assert [one.text for one in again] == [one.text for one in expected]
    cached = sum(segment.cached_tokens for one in again for segment in one.segments)
    prompts = cached + sum(segment.prefill_tokens for one in again for segment in one.segments)
    with capsys.disabled():
        print(f"\nprefix cache: {cached} of {prompts} prompt tokens, {cached / prompts:.0%}")
        for name, candidate in remote.switch.candidates.items():
            assert isinstance(candidate.engine, OpenAIEngine)
            use = candidate.engine.cache_use
            print(f"  {name}: {use.cached_tokens} of {use.prompt_tokens}, {use.hit_rate:.0%}")
    assert cached / prompts > 0.2


def test_a_long_prompt_is_read_once_per_model(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    remote = SwitchLLM(config=served.remote)
    result = remote.generate([" ".join(QUESTIONS * 8)])
    trace = Trace.from_json((result.generations[0][0].generation_info or {})["trace"])
    cached = sum(segment.cached_tokens for segment in trace.segments)
    prompts = cached + sum(segment.prefill_tokens for segment in trace.segments)
    with capsys.disabled():
        print(f"\nlong prompt: {cached} of {prompts} prompt tokens, {cached / prompts:.0%}")
    assert cached / prompts > 0.5


def test_a_streamed_answer_is_the_same(served: Served) -> None:
    remote = SwitchLLM(config=served.remote)
    for question in QUESTIONS[:2]:
        assert "".join(remote.stream(question)) == remote.invoke(question)


def test_stop_strings_and_boundaries_end_where_they_end_in_process(served: Served) -> None:
    changes = {"segment": {"max_tokens": 9, "end_at": "sentence"}}
    local = SwitchLLM(config=SwitchConfig.from_dict(served.local.to_dict() | changes))
    remote = SwitchLLM(config=SwitchConfig.from_dict(served.remote.to_dict() | changes))
    whole = local.invoke(QUESTIONS[0])
    assert remote.invoke(QUESTIONS[0]) == whole
    stop = whole[len(whole) // 2 :][:4]
    assert remote.invoke(QUESTIONS[0], stop=[stop]) == local.invoke(QUESTIONS[0], stop=[stop])


def test_a_seed_repeats_itself(served: Served) -> None:
    remote = SwitchLLM(config=served.remote)
    texts = [remote.invoke(QUESTIONS[1], seed=s, temperature=1.5) for s in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_one_request_scores_labels_and_longer_ones_take_one_per_position(served: Served) -> None:
    source = served.remote.resolve_model(served.local.candidate("aligned").model)
    spec = served.remote.candidate("aligned").engine
    assert spec is not None
    labels = ((20,), (20, 21), (30,))
    one = LabelRequest(row="x", prefix=[40, 41, 42], labels=labels)
    remote = make_openai_engine(spec, source)
    local = SwitchLLM(config=served.local).switch.candidates["aligned"].engine
    assert remote.label_logprobs([one])[0] == pytest.approx(
        local.label_logprobs([one])[0], abs=1e-4
    )
    with pytest.raises(ContextLengthError):
        remote.generate(
            [GenerateRequest(row="x", prefix=[1] * 1020, response_start=0, max_new_tokens=9)]
        )


def test_what_is_wrong_is_said(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    source = served.remote.resolve_model(served.local.candidate("aligned").model)
    spec = served.remote.candidate("aligned").engine
    assert spec is not None
    wrong = make_openai_engine(spec.model_copy(update={"model": "nobody"}), source)
    one = GenerateRequest(row="x", prefix=[1, 2], response_start=0, max_new_tokens=2)
    with pytest.raises(ConfigError, match=r"no model 'nobody'; it serves 'aligned', 'switcher'"):
        wrong.generate([one])
    monkeypatch.setenv("ANOTHER_KEY", "sk-wrong")
    refused = make_openai_engine(spec.model_copy(update={"api_key_env": "ANOTHER_KEY"}), source)
    with pytest.raises(EngineError, match="status 401") as caught:
        refused.generate([one])
    assert "sk-wrong" not in str(caught.value)
