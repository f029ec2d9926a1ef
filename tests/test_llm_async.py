from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from tiny_models import make_engine, random_model, switch_config

from langgraph_switch import ScriptedEngine, Switch, SwitchLLM
from langgraph_switch.engines.transformers_engine import TransformersEngine
from langgraph_switch.loading import computed_once


class Watched:
    """A model's forward pass that says when it begins."""

    def __init__(self, engine: TransformersEngine) -> None:
        self.begun = threading.Event()
        self.num_calls = 0
        self._forward = engine._shared.module.forward
        engine._shared.module.forward = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.num_calls += 1
        self.begun.set()
        return self._forward(*args, **kwargs)


def one_model() -> tuple[SwitchLLM, TransformersEngine]:
    engine = make_engine(random_model())
    config = switch_config("ab", segment={"max_tokens": 20}, max_tokens=400)
    return SwitchLLM(config=config, engines={"a": engine, "b": engine}), engine


async def test_a_cancelled_call_stops_after_its_segment_and_leaves_no_rows() -> None:
    llm, engine = one_model()
    watched = Watched(engine)
    task = asyncio.create_task(llm.ainvoke("hello"))
    await asyncio.to_thread(watched.begun.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert engine.num_rows == 0
    assert watched.num_calls <= 20
    assert llm.invoke("hello", max_tokens=5)


async def test_a_stream_closed_early_stops_and_leaves_no_rows() -> None:
    llm, engine = one_model()
    watched = Watched(engine)
    stream = llm.astream("hello")
    first = await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]
    assert engine.num_rows == 0
    assert watched.num_calls <= 20
    assert llm.invoke("hello").startswith(first)


async def test_nothing_that_takes_time_happens_in_the_event_loops_thread() -> None:
    threads: dict[str, int] = {}

    class Noting(ScriptedEngine):
        def generate(self, *args: Any, **kwargs: Any) -> Any:
            threads["generate"] = threading.get_ident()
            return super().generate(*args, **kwargs)

        def release(self, *args: Any) -> None:
            threads["release"] = threading.get_ident()
            super().release(*args)

    class Loading(SwitchLLM):
        @computed_once
        def switch(self) -> Switch:
            threads["load"] = threading.get_ident()
            return Switch(self.config, engines=self.engines)

    engines = {name: Noting(lambda _: "x" * 9) for name in "ab"}
    llm = Loading(config=switch_config("ab"), engines=engines)
    await llm.ainvoke("q", seed=3)
    assert set(threads) == {"load", "generate", "release"}
    assert threading.get_ident() not in threads.values()
