"""What a switcher may cost: LM switcher, small LMs and heads from the same rollouts, in one report.

python benchmarks/switchers.py [--rollouts FOLDER] [--out FOLDER] [--json FILE]

Trains each by the same graph on the same rows of the embedded family's rollouts and prints its
accuracy and regret on held-out rows, the score of its switch on the test questions, and its time:
of a decision, and of an answer beside the same answer with its speakers given and nobody asked.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, PreTrainedTokenizerFast

from langgraph_switch import Switch, SwitchConfig
from langgraph_switch.families import family_config
from langgraph_switch.offline import (
    HeadSettings,
    RolloutSettings,
    RowSettings,
    SftSettings,
    TrainedSwitcher,
    collect_rollouts,
    prepare_rollouts,
    respond,
    train_switcher,
)
from langgraph_switch.offline.responses import Response
from langgraph_switch.offline.statistics import mean_interval, paired_difference
from langgraph_switch.offline.training_rows import load_rollouts, prefix_trace
from langgraph_switch.report.table import interval
from langgraph_switch.scoring import Score
from langgraph_switch.switchers.base import Turn
from langgraph_switch.switchers.simple import RandomSwitcher
from langgraph_switch.tasks import Example, load_task
from langgraph_switch.trace import Trace

TASK = "tiny/compose"
LM = "LM switcher: all of the anchor"
_VOCABULARY = 600
_ROUNDS = 3


class Replayed(RandomSwitcher):
    """Gives the floor to whoever had it in a finished trace: an answer without decisions."""

    def __init__(self, names: Sequence[str], trace: Trace) -> None:
        super().__init__(names)
        self._names = names
        self._trace = trace

    def probabilities(self, turns: Sequence[Turn]) -> list[tuple[float, ...]]:
        """Return certainty for each segment's speaker."""
        spoke = [self._trace.segments[len(turn.trace.segments)].speaker for turn in turns]
        return [tuple(float(name == one) for name in self._names) for one in spoke]


def fewer_layers(anchor: str, folder: Path, layers: int) -> Path:
    """Save the first layers of the anchor as a model of its own."""
    model = AutoModelForCausalLM.from_pretrained(anchor)
    model.model.layers = model.model.layers[:layers]
    model.config.num_hidden_layers = layers
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(anchor).save_pretrained(folder)
    return folder


def another_family(texts: Sequence[str], folder: Path) -> Path:
    """Save a GPT-2 of random weights with a tokenizer of its own."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        special_tokens=["<|end|>"],
        initial_alphabet=sorted(alphabet),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    end = {"eos_token": "<|end|>", "bos_token": None}
    make_tokenizer: Any = PreTrainedTokenizerFast
    make_tokenizer(tokenizer_object=backend, **end).save_pretrained(folder)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=_VOCABULARY, n_embd=96, n_layer=2, n_head=3, n_positions=1024,
        bos_token_id=None, eos_token_id=0,
    )  # fmt: skip
    make_model: Any = AutoModelForCausalLM.from_config
    make_model(config).save_pretrained(folder)
    return folder


def train_all(rollouts: Path, out: Path) -> dict[str, TrainedSwitcher]:
    """Train every switcher, or go on with it."""
    source = load_rollouts([rollouts])
    anchor = source.config.resolve_model(source.config.candidate(source.config.anchor_name).model)
    texts = [f"{one.query}{one.text}" for one in map(prefix_trace, source.rows)]
    half = str(fewer_layers(anchor, out / "bases" / "half", 2))
    other = str(another_family(texts, out / "bases" / "gpt2"))
    kinds: dict[str, tuple[str | None, SftSettings | HeadSettings]] = {
        LM: (None, SftSettings()),
        "small LM: two of its four layers": (half, SftSettings()),
        "small LM: a GPT-2 of random weights": (other, SftSettings()),
        "linear head": (None, HeadSettings()),
        "linear head, not told who wrote": (None, HeadSettings(sees_speakers=False)),
        "MLP head": (None, HeadSettings(kind="mlp")),
        "MLP head, not told who wrote": (None, HeadSettings(kind="mlp", sees_speakers=False)),
    }
    found = {}
    for number, (name, (base, settings)) in enumerate(kinds.items()):
        rows = RowSettings(soft_labels=True)
        folder = out / f"switcher-{number}"
        found[name] = train_switcher(rollouts, out=folder, base=base, rows=rows, settings=settings)
        print(f"{name}: trained in {found[name].finetuned['seconds']:.0f} s", flush=True)
    return found


def answer_times(switch: Switch, example: Example, score: Score) -> tuple[float, float, float, int]:
    """Return seconds of an answer, without deciding, of its decisions, and their number."""
    [asked] = respond(switch, [example], score, seed=0)
    given = switch.with_switcher(Replayed(switch.config.names, asked.trace))
    [replayed] = respond(given, [example], score, seed=0)
    if replayed.trace.text != asked.trace.text:
        raise AssertionError("the replayed answer is another one")
    decided = [one.decide_s for one in asked.trace.segments if one.decided_by == "switcher"]
    return asked.seconds, replayed.seconds, sum(decided), len(decided)


def time_all(
    switches: dict[str, Switch], examples: Sequence[Example], score: Score
) -> dict[str, dict[str, float]]:
    """Time every switch one answer at a time, in turn; medians over questions."""
    seen: dict[str, list[tuple[float, float, float, int]]] = {name: [] for name in switches}
    for _ in range(_ROUNDS):
        for example in examples:
            for name, switch in switches.items():
                seen[name].append(answer_times(switch, example, score))
    return {
        name: {
            "decision_ms": 1000 * statistics.median(d / max(1, n) for _, _, d, n in rows),
            "extra_ms": 1000 * statistics.median((a - r) / max(1, n) for a, r, _, n in rows),
            "answer_ms": 1000 * statistics.median(a for a, _, _, _ in rows),
            "ratio": statistics.median(a / r for a, r, _, _ in rows),
        }
        for name, rows in seen.items()
    }


def score_all(
    switches: dict[str, Switch], examples: Sequence[Example], score: Score
) -> dict[str, list[Response]]:
    """Let every switch answer the test questions."""
    found = {}
    for name, switch in switches.items():
        started = time.perf_counter()
        found[name] = respond(switch, examples, score, seed=0)
        print(f"{name}: answered in {time.perf_counter() - started:.0f} s", flush=True)
    return found


def report(
    trained: dict[str, TrainedSwitcher],
    answered: dict[str, list[Response]],
    times: dict[str, dict[str, float]],
    clusters: Sequence[str],
) -> dict[str, Any]:
    """Return every figure as plain JSON types."""
    scores = {name: [one.score or 0.0 for one in rows] for name, rows in answered.items()}
    return {
        name: {
            "parameters": one.finetuned["num_trained_parameters"],
            "rows": one.finetuned["num_rows"],
            "train_seconds": one.finetuned["seconds"],
            "held_out": {key: one.metrics[key] for key in ("n", "queries", "accuracy", "regret")},
            "baselines": one.metrics["baselines"],
            "score": asdict(mean_interval(scores[name], clusters)),
            "against_lm": asdict(paired_difference(scores[name], scores[LM], clusters)),
            **times[name],
        }
        for name, one in trained.items()
    }


def show(found: dict[str, Any]) -> None:
    """Print the table."""
    heads = ("switcher", "parameters", "accuracy, %", "regret", "score, %", "decision, ms", "extra")
    table = Table(*heads, "answer / nobody asked")
    for name, one in found.items():
        regret = one["held_out"]["regret"]
        table.add_row(
            name, f"{one['parameters']:,}",
            interval(one["held_out"]["accuracy"] | {"n": one["held_out"]["n"]}),
            f"{regret['mean']:.3f} [{regret['low']:.3f}, {regret['high']:.3f}]",
            interval(one["score"]), f"{one['decision_ms']:.1f}", f"{one['extra_ms']:.1f}",
            f"{one['ratio']:.2f}",
        )  # fmt: skip
    Console(width=140).print(table)


def main() -> None:
    """Train, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rollouts", type=Path, help="a folder; by default they are collected")
    parser.add_argument("--queries", type=int, default=600, help="of rollouts collected here")
    parser.add_argument("--questions", type=int, help="of the test split; all by default")
    parser.add_argument("--timed", type=int, default=30, help="questions that are timed one by one")
    parser.add_argument("--out", type=Path, default=Path("runs/switchers"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="where docs/generate.py reads its figures")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    task = load_task(TASK)
    rollouts = options.rollouts or options.out / "rollouts"
    if options.rollouts is None:
        settings = RolloutSettings(completer="anchored")
        job = prepare_rollouts(
            family_config("tiny"), task, out=rollouts, queries=options.queries, settings=settings
        )
        collect_rollouts(job)
    trained = train_all(rollouts, options.out)
    switches = {name: Switch(SwitchConfig.load(one.folder)) for name, one in trained.items()}
    asked = task if options.questions is None else task.sample(options.questions, seed=0)
    examples = asked.split(asked.test_split)
    answered = score_all(switches, examples, task.score)
    times = time_all(switches, examples[: options.timed], task.score)
    clusters = [str(one.meta.get("cluster", one.id)) for one in examples]
    found = report(trained, answered, times, clusters)
    show(found)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
