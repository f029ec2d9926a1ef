from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from langgraph.checkpoint.memory import InMemorySaver
from rollout_rows import NAMES, learnable_rows, row, write_rollouts
from safetensors.torch import load_file

from langgraph_switch import SwitchConfig, SwitchLLM
from langgraph_switch.config import LMSwitcherSpec
from langgraph_switch.errors import ConfigError, ModelLoadError
from langgraph_switch.families import embedded_config
from langgraph_switch.offline.provenance import switcher_provenance
from langgraph_switch.offline.sft import SftSettings
from langgraph_switch.offline.switcher_artifact import TrainedSwitcher
from langgraph_switch.offline.training import TrainingJob, build_training_graph, train_switcher
from langgraph_switch.offline.training_rows import RowSettings
from langgraph_switch.switchers.lm import LMSwitcher

QUESTION = "How many legs do 3 spiders and 2 cats have in total?"
PICKLES = {".bin", ".pt", ".pth", ".pkl", ".ckpt"}
SHORT = SftSettings(epochs=1, batch_size=8, save_steps=2)
ROWS = RowSettings(holdout=0.2)


class CrashError(RuntimeError):
    """What a machine that goes down raises."""


@pytest.fixture(scope="module")
def rollouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rollouts(tmp_path_factory.mktemp("rollouts"), learnable_rows(360))


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rollouts(tmp_path_factory.mktemp("few"), learnable_rows(60))


@pytest.fixture(scope="module")
def trained(rollouts: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainedSwitcher:
    out = tmp_path_factory.mktemp("runs") / "spiders"
    return train_switcher(rollouts, out=out, rows=ROWS, settings=SftSettings(epochs=6))


def report_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return found


def test_a_learnable_rule_is_learned_and_beats_what_reads_nothing(
    trained: TrainedSwitcher,
) -> None:
    metrics = trained.metrics
    assert metrics["n"] > 40
    assert metrics["accuracy"]["mean"] > 0.9
    assert metrics["regret"]["mean"] < 0.1
    for baseline in metrics["baselines"].values():
        assert baseline["accuracy"]["mean"] < 0.6
        assert baseline["regret"]["mean"] > metrics["regret"]["mean"]
    assert trained.warnings == ()
    assert trained.finetuned["method"] == "full"
    assert trained.counts["training"] + trained.counts["held_out"] == 360


def test_the_folder_serves_and_holds_nothing_but_data(trained: TrainedSwitcher) -> None:
    files = {str(f.relative_to(trained.folder)) for f in trained.folder.rglob("*") if f.is_file()}
    assert {"switch.json", "metrics.json", "README.md", "model/model.safetensors"} <= files
    assert "model/tokenizer.json" in files
    assert not [name for name in files if Path(name).suffix in PICKLES]
    assert [one.name for one in trained.folder.parent.iterdir()] == ["spiders"]
    llm = SwitchLLM.from_config(trained.folder)
    assert llm.invoke(QUESTION)
    kept, original = llm.config, embedded_config()
    known = [{"name": name, "model": f"embedded:{name}"} for name in kept.names]
    assert kept.switcher == LMSwitcherSpec(
        model="./model", sampling={"temperature": 0, "top_p": 1}, trained_on=known
    )
    for field in ("segment", "max_tokens", "sampling", "anchor", "stop", "answer_cue"):
        assert getattr(kept, field) == getattr(original, field)
    dtypes = {v.dtype for v in load_file(trained.folder / "model" / "model.safetensors").values()}
    base = original.resolve_model("./aligned")
    assert dtypes == {v.dtype for v in load_file(Path(base) / "model.safetensors").values()}


def test_the_report_says_what_made_it(trained: TrainedSwitcher) -> None:
    report = report_of(trained.folder)
    assert report["provenance"]["completers"] == ["random"]
    assert report["provenance"]["rollouts"][0]["task"]["split"] == "train"
    assert report["provenance"]["candidates"] == list(NAMES)
    assert report["run"]["settings"]["epochs"] == 6
    assert {"langgraph-switch", "torch", "transformers", "trl", "peft"} <= set(report["versions"])
    described = switcher_provenance(SwitchConfig.load(trained.folder))
    assert described["rollouts completed by"] == "random"


def test_the_card_states_the_measured_figures(trained: TrainedSwitcher) -> None:
    card = ModelCard.load(trained.folder / "README.md")
    assert card.data.library_name == "langgraph-switch"
    for one in (trained.metrics, *trained.metrics["baselines"].values()):
        found = one["accuracy"]
        low, high = 100 * found["low"], 100 * found["high"]
        assert f"{100 * found['mean']:.1f} [{low:.1f}, {high:.1f}]" in card.text
    assert f"{trained.counts['training']} of" in card.text
    assert report_of(trained.folder)["provenance"]["rollouts"][0]["config_hash"] in card.text
    assert str(trained.folder.parent) not in card.text


def test_a_finished_run_is_not_done_again_and_another_is_refused(
    trained: TrainedSwitcher, rollouts: Path, few: Path
) -> None:
    kinds: list[str] = []
    again = train_switcher(
        rollouts,
        out=trained.folder,
        rows=ROWS,
        settings=SftSettings(epochs=6),
        on_event=lambda event: kinds.append(event["type"]),
    )
    assert again == trained
    assert kinds == ["loaded"]
    with pytest.raises(ConfigError, match=r"settings\.epochs: 6 there, None now") as caught:
        train_switcher(rollouts, out=trained.folder, rows=ROWS)
    assert "new folder" in caught.value.hint
    with pytest.raises(ConfigError, match=r"rollouts\.0\.rows: 360 there, 60 now"):
        train_switcher(few, out=trained.folder, rows=ROWS, settings=SftSettings(epochs=6))


def test_a_lora_switcher_shares_the_anchors_weights(few: Path, tmp_path: Path) -> None:
    settings = SHORT.model_copy(update={"method": "lora", "learning_rate": 1e-2})
    done = train_switcher(few, out=tmp_path / "out", rows=ROWS, settings=settings)
    assert not [f for f in done.folder.rglob("*") if f.suffix in PICKLES]
    llm = SwitchLLM.from_config(done.folder)
    spec = llm.config.switcher
    assert isinstance(spec, LMSwitcherSpec)
    assert (spec.candidate, spec.adapter, spec.model) == ("aligned", "./adapter", None)
    config = json.loads((done.folder / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == embedded_config().resolve_model("./aligned")
    assert llm.invoke(QUESTION)
    switcher = llm.switch.switcher
    assert isinstance(switcher, LMSwitcher)
    on, alone = switcher.engine, llm.switch.candidates["aligned"].engine
    assert on._shared is alone._shared
    assert on._adapter is not None
    assert done.finetuned["num_trained_parameters"] < done.finetuned["num_parameters"]


def test_a_broken_off_training_leaves_no_half_result_and_goes_on(few: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def crash_at(step: int) -> Any:
        def on_event(event: dict[str, Any]) -> None:
            if event["type"] == "step" and event["step"] == step:
                raise CrashError

        return on_event

    def train(folder: Path, on_event: Any = None) -> TrainedSwitcher:
        return train_switcher(few, out=folder, rows=ROWS, settings=SHORT, on_event=on_event)

    whole = train(tmp_path / "whole")
    with pytest.raises(CrashError):
        train(out, crash_at(5))
    assert not out.exists()
    with pytest.raises(ConfigError, match=r"run\.settings\.epochs: 1 there, 2 now"):
        train_switcher(few, out=out, rows=ROWS, settings=SHORT.model_copy(update={"epochs": 2}))
    resumed = train(out)
    assert resumed.finetuned["resumed_from_step"] == 4
    assert resumed.metrics == whole.metrics
    expected, found = (
        load_file(one.folder / "model" / "model.safetensors") for one in (whole, resumed)
    )
    assert all(bool((found[name] == expected[name]).all()) for name in expected)
    assert {one.name for one in tmp_path.iterdir()} == {"whole", "out"}


def test_soft_labels_and_ties_reach_the_trainer(tmp_path: Path) -> None:
    tied = [row(f"t{i}", "How many?", [[1.0], [1.0], [0.0]]) for i in range(12)]
    folder = write_rollouts(tmp_path / "r", tied)
    with pytest.raises(ConfigError, match="0 rows to train on, fewer than one batch of 8"):
        train_switcher(folder, out=tmp_path / "a", settings=SHORT)
    kept = RowSettings(keep_ties=True, soft_labels=True, holdout=0)
    done = train_switcher(folder, out=tmp_path / "b", rows=kept, settings=SHORT)
    assert done.counts["training"] == 12
    assert done.metrics["n"] == 0
    assert any("label 'pretrained'" in one for one in done.warnings)
    card = (done.folder / "README.md").read_text(encoding="utf-8")
    assert "nothing was measured" in card
    assert "soft labels" in card
    assert "## Warnings" in card


def test_the_start_may_be_any_candidate_or_any_model(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = embedded_config().resolve_model("./switcher")
    monkeypatch.chdir(Path(path).parent)
    for name, base in (("candidate", "finetuned"), ("path", "./switcher")):
        settings = SHORT.model_copy(update={"method": "lora"})
        done = train_switcher(few, out=tmp_path / name, base=base, rows=ROWS, settings=settings)
        spec = SwitchConfig.load(done.folder).switcher
        assert isinstance(spec, LMSwitcherSpec)
        assert (spec.candidate, spec.model) == (
            ("finetuned", None) if name == "candidate" else (None, path)
        )
        assert SwitchLLM.from_config(done.folder).switch.switcher
    with pytest.raises(ModelLoadError, match="no such folder"):
        train_switcher(few, out=tmp_path / "x", base=str(tmp_path / "none"), settings=SHORT)


def test_a_candidate_that_is_an_adapter_is_no_start(tmp_path: Path) -> None:
    config = embedded_config()
    changed = config.candidates[2].model_copy(update={"adapter": "user/adapter"})
    config = config.with_changes(candidates=(*config.candidates[:2], changed))
    folder = write_rollouts(tmp_path / "r", learnable_rows(20), config=config)
    with pytest.raises(ConfigError, match="'aligned' is an adapter") as caught:
        train_switcher(folder, out=tmp_path / "out", settings=SHORT)
    assert "another candidate" in caught.value.hint


def test_somebody_elses_folder_is_refused(few: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not empty and holds no trained switcher"):
        train_switcher(few, out=tmp_path, settings=SHORT)
    with pytest.raises(ConfigError, match="is a file"):
        train_switcher(few, out=tmp_path / "notes.txt", settings=SHORT)
    with pytest.raises(ConfigError, match="holds no trained switcher"):
        TrainedSwitcher.load(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_the_graph_keeps_small_json_and_streams_its_events(few: Path, tmp_path: Path) -> None:
    job = TrainingJob(rollouts=(few,), out=tmp_path / "out", rows=ROWS, settings=SHORT)
    graph = build_training_graph(job, checkpointer=InMemorySaver())
    thread: Any = {"configurable": {"thread_id": "1"}}
    events = list(graph.stream({}, thread, stream_mode="custom"))
    kinds = [event["type"] for event in events]
    assert kinds[:3] == ["loaded", "split", "step"]
    assert kinds[-3:] == ["trained", "measured", "saved"]
    state = graph.get_state(thread).values
    assert len(json.dumps(state)) < 5000
    assert json.loads(json.dumps(state)) == state
