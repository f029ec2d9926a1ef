"""Rollouts in rounds: each round's switcher writes the next round's prefixes and completions.

Round 1 is completed as the settings say; for every later one a switcher is trained on all rounds
before it (soft labels) and followed, straying with probability epsilon. Each round has a folder.
Knows nothing of the command line.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from langgraph_switch.config import SwitchConfig
from langgraph_switch.errors import ConfigError
from langgraph_switch.offline.collect import prepare_rollouts
from langgraph_switch.offline.events import OnEvent
from langgraph_switch.offline.rollout import RolloutJob
from langgraph_switch.offline.settings import RolloutSettings
from langgraph_switch.offline.sft_settings import SftSettings
from langgraph_switch.offline.shards import MANIFEST
from langgraph_switch.offline.training import train_switcher
from langgraph_switch.offline.training_rows import RowSettings
from langgraph_switch.switch import Switch
from langgraph_switch.tasks import Task


def round_folders(folder: str | Path) -> list[Path]:
    """Return the folders of rows in a folder: itself, or its rounds in order.

    Raises:
        ConfigError: There are no rollouts.
    """
    root = Path(folder)
    if (root / MANIFEST).is_file():
        return [root]
    found = sorted(
        (file.parent for file in root.glob(f"round-*/{MANIFEST}")),
        key=lambda path: int(path.name.removeprefix("round-")),
    )
    if not found:
        raise ConfigError(
            f"{str(folder)!r} holds no rollouts.",
            hint="make them first: langgraph-switch rollout --out FOLDER",
        )
    return found


def prepare_rounds(
    switch: Switch | SwitchConfig,
    task: Task,
    *,
    out: str | Path,
    rounds: int,
    queries: int | None = None,
    settings: RolloutSettings | None = None,
    training: SftSettings | None = None,
    on_training: OnEvent | None = None,
) -> Iterator[RolloutJob]:
    """Yield one job a round; run each to its end before asking for the next.

    Args:
        switch: Candidates and rules; if it is loaded, its models serve every round, here.
        task: Its training split is asked, with another draw of questions each round.
        out: Gets a folder a round (itself, if there is one round) and `switcher-N` between them.
        rounds: How many.
        queries: Questions of a round.
        settings: Of the first round; later ones differ in seed and completer.
        training: How the switchers between rounds are trained.
        on_training: Told what happens while they are.

    Raises:
        SwitchError: What `prepare_rollouts` and `train_switcher` raise.
    """
    settings = settings or RolloutSettings()
    loaded, config = (switch, switch.config) if isinstance(switch, Switch) else (None, switch)
    root = Path(out)
    for number in range(1, rounds + 1):
        folder = root if rounds == 1 else root / f"round-{number}"
        if number > 1:
            trained = train_switcher(
                [root / f"round-{earlier}" for earlier in range(1, number)],
                out=root / f"switcher-{number - 1}",
                rows=RowSettings(soft_labels=True),
                settings=training,
                on_event=on_training,
            )
            config = SwitchConfig.load(trained.folder).with_changes(seed=config.seed)
            loaded = loaded and loaded.with_config(config)
        here = settings if number == 1 else _later(settings, number)
        yield prepare_rollouts(
            config, task, out=folder, queries=queries, settings=here, switch=loaded
        )


def _later(settings: RolloutSettings, number: int) -> RolloutSettings:
    seed = settings.seed + number - 1
    return settings.model_copy(update={"completer": "switcher", "seed": seed})
