from __future__ import annotations

import threading
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.runnables import ConfigurableField
from pydantic import ValidationError
from tiny_models import switch_config

from langgraph_switch import CheckpointLLM, ScriptedEngine, SwitchLLM
from langgraph_switch.config import GREEDY, Sampling
from langgraph_switch.errors import InputError
from langgraph_switch.switchers.base import Turn
from langgraph_switch.switchers.simple import RandomSwitcher

PLAIN: Any = {"kind": "plain"}


def scripted(text: str, **fields: Any) -> CheckpointLLM:
    defaults: dict[str, Any] = {"prompt": PLAIN}
    return CheckpointLLM(model="m", engine=ScriptedEngine(lambda _: text), **(defaults | fields))


def test_a_field_that_is_set_later_counts() -> None:
    llm = scripted("hello you")
    assert llm.invoke("q") == "hello you"
    llm.max_tokens = 4
    assert llm.invoke("q") == "hell"
    llm.tags = ["a"]  # LangChain's own fields leave what is loaded in place.
    assert "switch" in llm.__dict__


def test_a_copy_with_other_fields_is_another_llm() -> None:
    llm = scripted("hello you")
    llm.invoke("q")
    short = llm.model_copy(update={"max_tokens": 4})
    assert (short.invoke("q"), llm.invoke("q")) == ("hell", "hello you")
    assert llm.model_copy().switch is llm.switch
    assert llm.model_copy(update={"tags": ["a"]}).switch is llm.switch


def test_fields_can_be_made_configurable() -> None:
    llm = scripted("hello you").configurable_fields(max_tokens=ConfigurableField(id="most"))
    assert llm.invoke("q") == "hello you"
    assert llm.with_config(configurable={"most": 4}).invoke("q") == "hell"


@pytest.mark.parametrize("field", [{"max_tokens": 0}, {"seed": -1}, {"temperatur": 0}])
def test_wrong_fields_are_refused_at_once(field: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(field))):
        scripted("x", **field)
    with pytest.raises(ValidationError, match="enginse"):
        SwitchLLM(config=switch_config(), enginse={})


@pytest.mark.parametrize("max_tokens", ["5", -5, 0, 2.5, True])
async def test_a_wrong_token_limit_is_an_input_error_however_it_is_asked(max_tokens: Any) -> None:
    llm = scripted("x")
    message = "`max_tokens` must be a positive integer"
    with pytest.raises(InputError, match=message):
        llm.invoke("q", max_tokens=max_tokens)
    with pytest.raises(InputError, match=message):
        list(llm.stream("q", max_tokens=max_tokens))
    with pytest.raises(InputError, match=message):
        await llm.ainvoke("q", max_tokens=max_tokens)
    with pytest.raises(InputError, match=message):
        [part async for part in llm.astream("q", max_tokens=max_tokens)]


def test_options_of_none_are_options_left_out() -> None:
    llm = scripted("hello", seed=3)
    options = {"seed": None, "max_tokens": None, "temperature": None, "stop": None}
    assert llm.invoke("q", **options) == "hello"
    info = llm.generate(["q"], **options).generations[0][0].generation_info
    assert info is not None
    assert info["seed"] == 3


def test_no_prompts_are_refused_and_an_empty_batch_is_empty() -> None:
    with pytest.raises(InputError, match="at least one query"):
        scripted("x").generate([])
    assert scripted("x").batch([]) == []


def test_models_are_loaded_once_by_threads_that_ask_at_once() -> None:
    num_built, started = [], threading.Barrier(8)

    class Slow(CheckpointLLM):
        @property
        def _config(self) -> Any:
            num_built.append(1)
            return super()._config

    llm = Slow(model="m", prompt=PLAIN, engine=ScriptedEngine(lambda _: "x"), max_tokens=1)
    switches = []

    def ask() -> None:
        started.wait()
        switches.append(llm.switch)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(num_built) == 1
    assert len({id(switch) for switch in switches}) == 1


class Eager(RandomSwitcher):
    """Always prefers one candidate."""

    def __init__(self, name: str) -> None:
        super().__init__("ab", {name: 1})
        self.sampling: Sampling = GREEDY
        self.name = name
        self.turns: list[Turn] = []

    def __repr__(self) -> str:
        return f"Eager({self.name!r})"


def test_a_cache_tells_policies_and_engines_apart() -> None:
    cache = InMemoryCache()
    config = switch_config("ab", max_tokens=6, segment={"max_tokens": 2})
    engines = {n: ScriptedEngine(lambda _, n=n: n * 9) for n in "ab"}
    others = {n: ScriptedEngine(lambda _, n=n: n.upper() * 9) for n in "ab"}

    def ask(engines: Any, name: str) -> str:
        llm = SwitchLLM(config=config, engines=engines, switcher=Eager(name), cache=cache)
        return llm.invoke("q")

    assert [ask(engines, "a"), ask(engines, "b")] == ["bbaabb", "bbbbbb"]
    num_calls = len(engines["a"].calls)
    assert ask(engines, "a") == "bbaabb"
    assert len(engines["a"].calls) == num_calls
    assert ask(others, "a") == "BBAABB"
    assert [
        CheckpointLLM(model="m", engine=one["a"], prompt=PLAIN, cache=cache, max_tokens=2).invoke(
            "q"
        )
        for one in (engines, others)
    ] == ["aa", "AA"]
