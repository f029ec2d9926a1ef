"""What arrives is whole and of one commit, or is refused; the real client over real HTTP."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from pytest_socket import disable_socket
from stand_in import Fault, Hub

from langgraph_switch import ChatSwitch, SwitchLLM
from langgraph_switch.engines.load_errors import load_error
from langgraph_switch.engines.models import load_shared_model
from langgraph_switch.errors import ConfigError, ModelLoadError, UnsafeWeightsError
from langgraph_switch.families import embedded_config, family_config, family_names
from langgraph_switch.hub.plan import plan_memory
from langgraph_switch.hub.pull import pull, pull_switch
from langgraph_switch.hub.push import push

pytestmark = pytest.mark.enable_socket

TINY = Path(embedded_config().resolve_model("./aligned")).parent
WEIGHTS = (TINY / "aligned" / "model.safetensors").read_bytes()
QUESTION = "How many legs do 3 spiders and 2 cats have in total?"


@pytest.fixture
def repo(online: Path) -> str:
    del online
    push(TINY / "aligned", "user/aligned", license="mit")
    return "user/aligned"


def test_large_files_are_put_once_and_named_by_their_hash(hub: Hub, repo: str) -> None:
    assert hub.files("models/user/aligned")["model.safetensors"] == WEIGHTS
    assert sum(one.startswith("PUT") for one in hub.requests) == 1
    hub.requests.clear()
    push(TINY / "aligned", "user/other", license="mit")
    assert not any(one.startswith("PUT") for one in hub.requests)
    assert (pull(repo) / "model.safetensors").read_bytes() == WEIGHTS


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_a_damaged_file_is_never_loaded(hub: Hub, repo: str, file: str) -> None:
    good = hub.files("models/user/aligned")[file]
    hub.damaged[file] = good[:-3] + bytes([good[-3] ^ 1]) + good[-2:]  # Of the right size.
    for fetch in (pull, load_shared_model):
        with pytest.raises(ModelLoadError, match=f"{file} arrived damaged") as caught:
            fetch(repo)
        assert caught.value.retryable
    hub.damaged.clear()
    assert (pull(repo) / file).read_bytes() == good


def test_a_file_is_checked_once(repo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pull(repo)
    monkeypatch.setattr("langgraph_switch.engines.repos._is_as_promised", lambda _: False)
    pull(repo)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.37, 0.5, 0.999])
def test_cut_anywhere_and_repeated_it_ends_whole(hub: Hub, repo: str, share: float) -> None:
    cut = int(share * len(WEIGHTS))
    hub.faults.append(Fault("model.safetensors", cut_after=cut, times=99))
    with pytest.raises(ModelLoadError) as caught:
        pull(repo)
    assert caught.value.retryable
    hub.faults.clear()
    assert (pull(repo) / "model.safetensors").read_bytes() == WEIGHTS


def test_all_files_are_of_one_commit(hub: Hub, repo: str) -> None:
    before = hub.files("models/user/aligned")
    changed = {name: data + b" " for name, data in before.items()}

    def change(request: str) -> None:
        if "/resolve/" in request and request.startswith("GET"):
            hub.on_request = lambda _: None
            hub.commit("models/user/aligned", dict(changed))

    hub.on_request = change
    folder = pull(repo)
    assert hub.files("models/user/aligned")["config.json"] == changed["config.json"]
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        assert (folder / name).read_bytes() == before[name]


def test_without_a_network_what_is_cached_works_and_the_rest_fails_at_once(
    repo: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    del repo
    folder = SwitchLLM.embedded().save_pretrained(tmp_path / "switch")
    data = json.loads((folder / "switch.json").read_text(encoding="utf-8"))
    data["candidates"][2]["model"] = "user/aligned"
    (folder / "switch.json").write_text(json.dumps(data), encoding="utf-8")
    push(folder, "user/legs", license="mit")
    expected = SwitchLLM.from_pretrained("user/legs").invoke(QUESTION)
    assert expected == SwitchLLM.embedded().invoke(QUESTION)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    disable_socket()
    assert SwitchLLM.from_pretrained("user/legs").invoke(QUESTION) == expected
    assert ChatSwitch.from_pretrained("user/legs").invoke(QUESTION).text == expected
    with pytest.raises(ModelLoadError, match="not in the local cache"):
        SwitchLLM.from_pretrained("user/never-seen")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            Fault("/api/models", status=403, headers={"X-Error-Code": "GatedRepo"}, times=99),
            r"gated.*(?s:.*)https://huggingface.co/user/aligned, then run: hf auth login",
        ),
        (Fault("/api/models", status=401, times=99), "hf auth login"),
        (
            Fault("/revision/", status=404, headers={"X-Error-Code": "RevisionNotFound"}),
            r"no such revision 'v7'",
        ),
        (
            Fault("/tree/", status=404, headers={"X-Error-Code": "RevisionNotFound"}, times=99),
            "no longer exists(?s:.*)candidates=",
        ),
    ],
)
def test_refusals_say_what_to_do(hub: Hub, repo: str, fault: Fault, message: str) -> None:
    hub.faults.append(fault)
    revision = "v7" if "/revision/" in fault.path else "0" * 40 if "/tree/" in fault.path else None
    with pytest.raises(ModelLoadError, match=message):
        pull(repo, revision=revision)


def test_a_full_disk_is_said(repo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
    with pytest.raises(ModelLoadError, match=r"disk is full(?s:.*)HF_HOME"):
        pull(repo)


def test_pickled_weights_of_a_repo_are_refused(hub: Hub, online: Path) -> None:
    hub.create("models/user/old")
    files = {p.name: p.read_bytes() for p in (TINY / "aligned").iterdir() if p.suffix == ".json"}
    hub.commit("models/user/old", files | {"pytorch_model.bin": b"pickle"})
    with pytest.raises(UnsafeWeightsError, match="no safetensors weights"):
        load_shared_model("user/old")
    assert not any(path.name.endswith(".bin") for path in online.rglob("*"))


def published(hub: Hub, change: dict[str, Any]) -> str:
    data = json.loads((TINY / "switch.json").read_text(encoding="utf-8")) | change
    hub.create("models/user/odd")
    hub.commit("models/user/odd", {"switch.json": json.dumps(data).encode()})
    return "user/odd"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 9, "package_version": "7.1"}, "langgraph-switch>=7.1"),
        ({"candidats": []}, "candidats"),
        ({"trust_remote_code": ["aligned"]}, "trust_remote_code"),
        ({"switcher": {"candidate": "aligned", "kind": "lm", "adapter": "/etc"}}, "'/etc'"),
        ({"switcher": {"candidate": "aligned", "kind": "lm", "adapter": "../x"}}, "'../x'"),
    ],
)
def test_odd_switches_are_refused(
    hub: Hub, online: Path, change: dict[str, Any], message: str
) -> None:
    del online
    with pytest.raises(ConfigError, match=message):
        pull_switch(published(hub, change))


@pytest.mark.parametrize("trusted", [["nobody"], "aligned", True])
def test_consent_names_candidates(trusted: Any) -> None:
    with pytest.raises(ConfigError, match="trust_remote_code"):
        SwitchLLM.embedded().model_copy(update={"trust_remote_code": trusted}).switch  # noqa: B018


def test_the_published_family_needs_three_copies(hub: Hub, online: Path) -> None:
    del online
    config = family_config("tulu3-8b")
    shape = {
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "hidden_size": 4096,
        "dtype": "bfloat16",
    }
    names = [*(one.model for one in config.candidates), "bunsenfeng/PFA_switcher_1"]
    for name in names:
        hub.create(f"models/{name}")
        hub.commit(
            f"models/{name}",
            {"config.json": json.dumps(shape).encode(), "model.safetensors": b"1234"},
        )
    plan = plan_memory(config)
    assert len(plan.weights) == 3
    assert plan.weights[-1].users == ("aligned", "switcher")
    assert plan.weights[-1].adapters == {"bunsenfeng/PFA_switcher_1": 4}
    assert plan.weights[0].kv_bytes_per_token in {2 * 32 * 8 * 128 * 2, 2 * 32 * 8 * 128 * 4}
    assert not any("safetensors" in one for one in hub.requests)


def test_offloading_is_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    data = embedded_config().with_absolute_models().to_dict()
    for spec in [*data["candidates"], data["switcher"]]:
        spec |= {"offload": "cpu", "device": "cuda:0"}
    monkeypatch.setattr("langgraph_switch.hub.plan.resolve_device", lambda name: name)
    monkeypatch.setattr("langgraph_switch.hub.plan.free_bytes", {"cuda:0": 2**20, "cpu": None}.get)
    plan = plan_memory(type(embedded_config()).from_dict(data))
    card, home = plan.devices()
    largest = max(one.num_bytes for one in plan.weights)
    assert (card.device, card.weight_bytes, card.fits) == ("cuda:0", largest, False)
    assert (home.device, home.weight_bytes, home.fits) == ("cpu", plan.weight_bytes, None)


@pytest.mark.parametrize("name", [one for one in family_names() if one != "tiny"])
def test_presets_read_as_their_roles_do(name: str) -> None:
    config = family_config(name)
    first, *others = config.candidates
    assert (first.role, first.eos, first.prompt.kind) == ("pretrained", "mask", "auto")
    assert config.anchor_name == "aligned"
    assert all(one.role != "pretrained" and one.prompt.kind == "auto" for one in others)
    assert all(one.model.count("/") == 1 for one in config.candidates)


def test_errors_of_this_package_stay_what_they_are() -> None:
    err = ModelLoadError("a", "b")
    assert load_error("c", err) is err
