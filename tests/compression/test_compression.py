"""Checkpoints as adapters: what is lost is bounded, what is whole is exact, all loads as ever."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from tiny_models import byte_tokenizer, random_model, switch_config
from torch import nn
from transformers import PreTrainedModel
from typer.testing import CliRunner

from langgraph_switch.cli.app import app
from langgraph_switch.compression.adapter import Bounds, express
from langgraph_switch.compression.family import CompressionSettings, compress_family, weight_bytes
from langgraph_switch.compression.low_rank import factorize
from langgraph_switch.compression.moments import input_moments
from langgraph_switch.config import SwitchConfig
from langgraph_switch.engines.models import load_shared_model
from langgraph_switch.errors import ConfigError
from langgraph_switch.switch import Switch

EXACT = Bounds(error=1e-6, embedding_error=1e-6)


def tuned(base: PreTrainedModel, *, rank: int = 3, seed: int = 1) -> PreTrainedModel:
    """Return a copy whose matrices changed by a low rank, and whose norms changed at will."""
    torch.manual_seed(seed)
    model = copy.deepcopy(base)
    for name, parameter in model.named_parameters():
        if "layers.0.mlp" in name:
            continue  # Some layers did not learn.
        if parameter.ndim == 2:
            out, width = parameter.shape
            change = torch.randn(out, rank) @ torch.randn(rank, width) * 0.1
        else:
            change = 0.2 * torch.randn_like(parameter)
        parameter.data += change
    return model


def saved(model: PreTrainedModel, folder: Path) -> str:
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return str(folder)


def test_the_rank_is_the_least_within_the_bound() -> None:
    torch.manual_seed(0)
    matrix = torch.randn(20, 30)
    for error in (0.9, 0.5, 0.1, 1e-6):
        found = factorize(matrix, error=error)
        measured = (matrix - found.up @ found.down).norm() / matrix.norm()
        assert float(measured) <= error + 1e-5
        assert found.error == pytest.approx(float(measured), abs=1e-5)
        if found.rank > 1:
            left, values, right = torch.linalg.svd(matrix, full_matrices=False)
            less = (left[:, : found.rank - 1] * values[: found.rank - 1]) @ right[: found.rank - 1]
            assert float((matrix - less).norm() / matrix.norm()) > error


def test_a_bound_on_outputs_spends_rank_where_inputs_are() -> None:
    torch.manual_seed(0)
    matrix = torch.randn(20, 30)
    inputs = torch.randn(500, 4) @ torch.randn(4, 30)  # Inputs fill 4 of 30 directions.
    blind = factorize(matrix, error=0.2)
    seeing = factorize(matrix, error=0.2, moment=inputs.T @ inputs)
    assert seeing.rank <= 5 < blind.rank
    lost = inputs @ (matrix - seeing.up @ seeing.down).T
    assert float(lost.norm() / (inputs @ matrix.T).norm()) <= 0.2 + 1e-3


@pytest.mark.parametrize("is_tied", [True, False])
@pytest.mark.parametrize("embedding_rank", [3, 200])
def test_a_low_rank_change_is_expressed_exactly(
    tmp_path: Path, is_tied: bool, embedding_rank: int
) -> None:
    base = random_model(tie_word_embeddings=is_tied)
    other = tuned(base)
    if embedding_rank > 3:
        other.get_input_embeddings().weight.data += 0.1 * torch.randn(300, 48)
    adapter = express(base, other, EXACT)
    kinds = {one.layer: one.kind for one in adapter.layers}
    assert kinds["model.embed_tokens"] == ("low-rank" if embedding_rank == 3 else "whole")
    assert kinds["model.norm"] == "whole"
    assert ("lm_head" in kinds) is not is_tied
    assert not any("layers.0.mlp" in name for name in kinds)
    assert all(one.rank == 3 for one in adapter.layers if "layers.1" in one.layer and one.rank)
    adapter.save(tmp_path / "adapter", dtype=torch.float32)
    loaded = load_shared_model(saved(base, tmp_path / "base"))
    name = loaded.add_adapter(str(tmp_path / "adapter"))
    ids = torch.randint(0, 250, (2, 12))
    with torch.inference_mode():
        expected, plain = other(ids).logits, base(ids).logits
        loaded.activate(name)
        torch.testing.assert_close(loaded.module(ids).logits, expected, rtol=1e-3, atol=1e-3)
        loaded.activate(None)
        torch.testing.assert_close(loaded.module(ids).logits, plain)
        assert loaded.can_mix()
        with loaded.stack().using(loaded.rows_of([name, None])):
            mixed = loaded.module(ids).logits
    torch.testing.assert_close(mixed[0], expected[0], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(mixed[1], plain[1], rtol=1e-3, atol=1e-3)
    stored = sum(one.num_parameters for one in adapter.layers)
    assert weight_bytes([loaded]) == 4 * (sum(p.numel() for p in base.parameters()) + stored)


def test_a_layer_whose_bias_changed_is_kept_whole() -> None:
    base = random_model("qwen2 with mixed layers")
    other = tuned(base)
    layer = base.model.layers[0].self_attn.q_proj
    assert layer.bias is not None
    kinds = {one.layer: one.kind for one in express(base, other, EXACT).layers}
    assert kinds["model.layers.0.self_attn.q_proj"] == "whole"
    assert kinds["model.layers.0.self_attn.o_proj"] == "low-rank"


def test_moments_are_those_of_the_inputs() -> None:
    model = random_model()
    seen: list[torch.Tensor] = []
    layer = model.model.layers[1].mlp.up_proj
    layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0]))
    found = input_moments(model, [[1, 2, 3], [4, 5]])
    expected = sum(x.T @ x for x in seen)
    torch.testing.assert_close(found["model.layers.1.mlp.up_proj"], expected)
    assert all(isinstance(one, nn.Linear) for one in (model.get_submodule(n) for n in found))


def test_what_cannot_be_an_adapter_is_refused() -> None:
    base = random_model()
    with pytest.raises(ConfigError, match="same weights"):
        express(base, copy.deepcopy(base), EXACT)
    with pytest.raises(ConfigError, match="differ in shape"):
        express(base, random_model(intermediate_size=32), EXACT)
    with pytest.raises(ConfigError, match="of low rank within this error"):
        express(base, random_model(seed=1), EXACT)


def family(tmp_path: Path) -> SwitchConfig:
    base = random_model(tie_word_embeddings=True)
    paths = [saved(base, tmp_path / "a")]
    paths += [saved(tuned(base, seed=s), tmp_path / n) for s, n in ((1, "b"), (2, "c"))]
    config = switch_config(("a", "b", "c"), switcher={"kind": "random"})
    candidates = tuple(
        spec.model_copy(update={"model": path})
        for spec, path in zip(config.candidates, paths, strict=True)
    )
    return config.with_changes(candidates=candidates)


def test_a_compressed_family_shares_its_base_and_answers_alike(tmp_path: Path) -> None:
    from langgraph_switch.loop import finish_traces  # noqa: PLC0415
    from langgraph_switch.queries import trace_from_query  # noqa: PLC0415
    from langgraph_switch.switchers.base import Turn  # noqa: PLC0415

    config = family(tmp_path)
    settings = CompressionSettings(base="a", error=1e-6, embedding_error=1e-6)
    done = compress_family(config, settings, tmp_path / "out")
    loaded = SwitchConfig.load(tmp_path / "out")
    assert [spec.adapter for spec in loaded.candidates] == [None, "./b", "./c"]
    assert len({spec.model for spec in loaded.candidates}) == 1
    texts = []
    for one in (config, done.config):
        switch = Switch(one)
        turns = [
            Turn(trace_from_query({"query": f"q{i}", "seed": i}, one), str(i)) for i in range(4)
        ]
        texts.append([trace.text for trace in finish_traces(switch, turns)])
    assert texts[0] == texts[1]
    assert len({id(c.engine.model) for c in switch.candidates.values()}) == 1
    report = json.loads((tmp_path / "out" / "compression.json").read_text())
    assert set(report["layers"]) == {"b", "c"}
    assert report["bound_on"] == "weights"


def test_a_wrong_base_or_folder_is_refused(tmp_path: Path) -> None:
    config = family(tmp_path)
    with pytest.raises(ConfigError, match="'x' is no candidate"):
        compress_family(config, CompressionSettings(base="x"), tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds something else"):
        compress_family(config, CompressionSettings(base="a"), tmp_path / "full")


def test_the_command_measures_memory_and_scores(tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["compress", "--task", "tiny/mixed", "--split", "dev", "--questions", "4"]
    arguments += ["--calibration", "4", "--error", "0.3", "--out", str(out), "--no-color"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    report = json.loads((out / "compression.json").read_text())
    assert report["bound_on"] == "outputs"
    assert 1.1 < report["memory"]["ratio_to_base"] < 1.6
    assert set(report["scores"]) == {"switch", "pretrained", "finetuned", "aligned"}
    assert report["scores"]["aligned"]["all"]["difference"]["mean"] == 0.0
    assert report["scores"]["switch"]["all"]["difference"]["n"] == 4
    candidates = SwitchConfig.load(out).candidates
    assert [one.model for one in candidates] == ["embedded:aligned"] * 3


def test_a_bound_out_of_range_is_an_error_with_a_fix(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["compress", "--error", "2", "--out", str(tmp_path / "x")])
    assert result.exit_code == 2
    assert "--error" in result.output
    assert "such as --error 0.2" in result.output
