"""Push, pull and run through the real client, over real HTTP, against a stand-in for the Hub."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from stand_in import Fault, Hub

from langgraph_switch import SwitchLLM
from langgraph_switch.config import HeadSwitcherSpec, SwitchConfig
from langgraph_switch.families import embedded_config
from langgraph_switch.switchers.head_model import HeadConfig, SwitcherHead

pytestmark = pytest.mark.enable_socket

QUESTION = "How many legs do 3 spiders and 2 cats have in total?"
TINY = Path(embedded_config().resolve_model("./aligned")).parent


class Machine:
    """Somebody's machine, with a cache of its own."""

    def __init__(self, home: Path, hub: Hub) -> None:
        self.home = home
        self._env = {
            "HF_HOME": str(home / "hf"),
            "HF_ENDPOINT": hub.url,
            "HF_HUB_DISABLE_XET": "1",
            "HF_TOKEN": "hf_secret",
            "NO_PROXY": "*",
            "OMP_NUM_THREADS": "1",
        }

    def run(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "langgraph_switch.cli", *arguments],
            env=os.environ | self._env | env,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )

    def done(self, *arguments: str, **env: str) -> str:
        done = self.run(*arguments, **env)
        assert done.returncode == 0, done.stderr
        assert "hf_secret" not in done.stdout + done.stderr
        return done.stdout

    def python(self, program: str, **env: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | self._env | env,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def author(tmp_path: Path, hub: Hub) -> Machine:
    return Machine(tmp_path / "author", hub)


@pytest.fixture
def reader(tmp_path: Path, hub: Hub) -> Machine:
    return Machine(tmp_path / "reader", hub)


@pytest.fixture
def switch_folder(tmp_path: Path) -> Path:
    """A trained switch with its switcher's weights; the candidates are named."""
    return SwitchLLM.embedded().save_pretrained(tmp_path / "switch")


def test_pushed_and_pulled_it_answers_alike(
    hub: Hub, author: Machine, reader: Machine, switch_folder: Path
) -> None:
    commit = author.done(
        "push", str(switch_folder), "user/legs", "--with-models", "--license", "mit"
    ).strip()
    assert commit == hub.heads["models/user/legs"]["main"]
    folder = Path(reader.done("pull", "user/legs").strip())
    for name in ("pretrained", "finetuned", "aligned"):
        pulled = folder / "candidates" / name / "model.safetensors"
        assert pulled.read_bytes() == (TINY / name / "model.safetensors").read_bytes()
    program = (
        "from langgraph_switch import SwitchLLM, ChatSwitch\n"
        f"print(SwitchLLM.from_pretrained('user/legs').invoke({QUESTION!r}))\n"
        f"print(ChatSwitch.from_pretrained('user/legs', revision={commit!r})"
        f".invoke({QUESTION!r}).text)"
    )
    expected = SwitchLLM.embedded().invoke(QUESTION)
    assert reader.python(program).splitlines() == [expected, expected]
    assert "license: mit" in (folder / "README.md").read_text(encoding="utf-8")
    offline = reader.python(program, HF_HUB_OFFLINE="1", HF_ENDPOINT="http://127.0.0.1:9")
    assert offline.splitlines() == [expected, expected]


def test_a_switch_with_a_head_travels_too(
    hub: Hub, author: Machine, reader: Machine, tmp_path: Path
) -> None:
    head = SwitcherHead(
        HeadConfig(
            kind="linear", hidden_size=128, candidates=("pretrained", "finetuned", "aligned"),
            reads="aligned", model="embedded:aligned",
        )
    )  # fmt: skip
    (tmp_path / "head").mkdir()
    head.save(tmp_path / "head")
    spec = HeadSwitcherSpec(head=str(tmp_path / "head"))
    llm = SwitchLLM(config=embedded_config().with_changes(switcher=spec))
    folder = llm.save_pretrained(tmp_path / "switch")
    author.done("push", str(folder), "user/head")
    pulled = Path(reader.done("pull", "user/head").strip())
    for name in ("head.json", "head.safetensors"):
        assert (pulled / "head" / name).read_bytes() == (tmp_path / "head" / name).read_bytes()
    asked = f"print(SwitchLLM.from_pretrained('user/head').invoke({QUESTION!r}))"
    told = reader.python(f"from langgraph_switch import SwitchLLM; {asked}", HF_HUB_OFFLINE="1")
    assert told.strip() == llm.invoke(QUESTION).strip()
    # A head alone, by the name of a repo whose root it is.
    files = {path.name: path.read_bytes() for path in (tmp_path / "head").iterdir()}
    hub.create("models/user/bare-head")
    hub.commit("models/user/bare-head", dict(files))
    alone = spec.model_copy(update={"head": "user/bare-head"})
    config = embedded_config().with_absolute_models().with_changes(switcher=alone)
    config.save(tmp_path)
    load = f"SwitchLLM.from_config({str(tmp_path)!r}).invoke({QUESTION!r})"
    assert reader.python(f"from langgraph_switch import SwitchLLM; print({load})") == told


def test_embedded_candidates_need_no_copy(
    hub: Hub, author: Machine, reader: Machine, switch_folder: Path
) -> None:
    author.done("push", str(switch_folder), "user/small")
    assert not any(name.startswith("candidates/") for name in hub.files("models/user/small"))
    program = (
        "from langgraph_switch import SwitchLLM\n"
        f"print(SwitchLLM.from_pretrained('user/small').invoke({QUESTION!r}))"
    )
    assert reader.python(program).strip() == SwitchLLM.embedded().invoke(QUESTION)


def test_inspect_downloads_no_weights(
    hub: Hub, author: Machine, reader: Machine, switch_folder: Path
) -> None:
    author.done("push", str(TINY / "aligned"), "user/aligned", "--license", "mit")
    data = json.loads((switch_folder / "switch.json").read_text(encoding="utf-8"))
    data["candidates"][2]["model"] = "user/aligned"
    (switch_folder / "switch.json").write_text(json.dumps(data), encoding="utf-8")
    author.done("push", str(switch_folder), "user/legs", "--with-models", "--license", "mit")
    pinned = json.loads(hub.files("models/user/legs")["switch.json"])["candidates"][2]
    assert pinned["revision"] == hub.heads["models/user/aligned"]["main"]
    assert len(pinned["tokenizer"]) == 16
    hub.requests.clear()
    shown = reader.done("inspect", "user/legs", COLUMNS="200")
    assert "user/aligned" in shown
    assert pinned["revision"][:8] in shown
    assert [one for one in hub.requests if "safetensors" in one] == []
    assert "15.1 MiB of weights in 4 copies" in shown  # Of which three are not here.


def test_a_pull_that_was_cut_is_whole_the_next_time(
    hub: Hub, author: Machine, reader: Machine
) -> None:
    author.done("push", str(TINY / "aligned"), "user/aligned", "--license", "mit")
    weights = (TINY / "aligned" / "model.safetensors").read_bytes()
    hub.faults.append(Fault("model.safetensors", cut_after=len(weights) // 3, times=99))
    broken = reader.run("pull", "user/aligned")
    assert broken.returncode != 0
    hub.faults.clear()
    folder = Path(reader.done("pull", "user/aligned").strip())
    assert (folder / "model.safetensors").read_bytes() == weights


def test_busy_servers_are_asked_again(hub: Hub, author: Machine, reader: Machine) -> None:
    author.done("push", str(TINY / "aligned"), "user/aligned", "--license", "mit")
    hub.faults.append(Fault("resolve", status=503, times=1))
    hub.faults.append(Fault("resolve", status=429, headers={"Retry-After": "1"}, times=1))
    folder = Path(reader.done("pull", "user/aligned").strip())
    assert (folder / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("arguments", "fault", "message"),
    [
        (("pull", "user/none"), None, "no such repo"),
        (("pull", "user/aligned", "--revision", "v9"), None, "no such revision"),
        (("pull", "user/aligned"), Fault("/api/models", status=401, times=99), "hf auth login"),
        (("pull", "not a name"), None, "no name of a repo"),
        (("pull", "user/aligned", "--type", "dataset"), None, "no such repo"),
    ],
)
def test_what_goes_wrong_is_said(
    hub: Hub, author: Machine, arguments: tuple[str, ...], fault: Fault | None, message: str
) -> None:
    hub.create("models/user/aligned")
    if fault is not None:
        hub.faults.append(fault)
    done = author.run(*arguments)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert "hf_secret" not in done.stderr


def test_what_cannot_be_pushed_is_refused(
    author: Machine, switch_folder: Path, tmp_path: Path
) -> None:
    data = json.loads((switch_folder / "switch.json").read_text(encoding="utf-8"))
    bare = tmp_path / "pretrained"
    shutil.copytree(TINY / "pretrained", bare)
    data["candidates"][0]["model"] = str(bare)
    (switch_folder / "switch.json").write_text(json.dumps(data), encoding="utf-8")
    (switch_folder / "README.md").unlink(missing_ok=True)
    alone = author.run("push", str(switch_folder), "user/legs")
    assert "--with-models" in alone.stderr
    no_license = author.run("push", str(switch_folder), "user/legs", "--with-models")
    assert "--license" in no_license.stderr
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "nothing that can be pushed" in author.run("push", str(empty), "user/x").stderr


def test_a_published_adapter_gets_the_papers_candidates(hub: Hub, reader: Machine) -> None:
    hub.create("models/bunsenfeng/PFA_switcher_1")
    described = {"base_model_name_or_path": "allenai/Llama-3.1-Tulu-3-8B", "peft_type": "LORA"}
    hub.commit(
        "models/bunsenfeng/PFA_switcher_1",
        {"adapter_config.json": json.dumps(described).encode(), "adapter_model.safetensors": b""},
    )
    program = (
        "import warnings, json\n"
        "from langgraph_switch import SwitchLLM\n"
        "with warnings.catch_warnings(record=True) as told:\n"
        "    warnings.simplefilter('always')\n"
        "    llm = SwitchLLM.from_pretrained('bunsenfeng/PFA_switcher_1')\n"
        "print([c.model for c in llm.config.candidates])\n"
        "print([str(one.message) for one in told])"
    )
    models, told = reader.python(program).splitlines()
    assert "meta-llama/Llama-3.1-8B" in models
    assert "adapter alone" in told
    assert "tulu3-8b" in told


def test_another_tokenizer_than_the_published_one_is_refused(switch_folder: Path) -> None:
    data = json.loads((switch_folder / "switch.json").read_text(encoding="utf-8"))
    data["candidates"][1]["tokenizer"] = "0123456789abcdef"
    (switch_folder / "switch.json").write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(ValueError, match="'finetuned' has another tokenizer"):
        SwitchLLM.from_pretrained(switch_folder).invoke(QUESTION)


def test_a_switcher_refuses_candidates_in_another_order(switch_folder: Path) -> None:
    data: dict[str, Any] = json.loads((switch_folder / "switch.json").read_text(encoding="utf-8"))
    known = [{"name": one["name"], "model": one["model"]} for one in data["candidates"]]
    data["switcher"]["trained_on"] = known
    SwitchConfig.from_dict(data)
    data["candidates"].reverse()
    with pytest.raises(ValueError, match="trained for pretrained, finetuned, aligned"):
        SwitchConfig.from_dict(data)


def test_candidates_are_swapped_on_purpose_and_told(switch_folder: Path) -> None:
    other = str(TINY / "finetuned")
    with pytest.warns(UserWarning, match="trained with"):
        llm = SwitchLLM.from_pretrained(switch_folder, candidates={"pretrained": other})
    assert llm.config.candidate("pretrained").model == other
    with pytest.raises(ValueError, match="no candidate 'base'"):
        SwitchLLM.from_pretrained(switch_folder, candidates={"base": other})


def test_foreign_and_escaping_paths_are_refused(
    hub: Hub, reader: Machine, switch_folder: Path
) -> None:
    data = json.loads((switch_folder / "switch.json").read_text(encoding="utf-8"))
    for model, problem in (("./../secrets", "outside of its folder"), ("/home/me/x", "a folder")):
        data["candidates"][0]["model"] = model
        hub.create("models/user/odd")
        hub.commit("models/user/odd", {"switch.json": json.dumps(data).encode()})
        shutil.rmtree(reader.home, ignore_errors=True)
        done = reader.run("inspect", "user/odd")
        assert done.returncode != 0
        assert problem in done.stderr
