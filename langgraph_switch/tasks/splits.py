"""Which row belongs to which split, and that no question is in two of them.

Knows nothing of files or of what rows hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from langgraph_switch.errors import InputError
from langgraph_switch.seeds import derive_uniform
from langgraph_switch.tasks.task import TEST_SPLIT, Example

Splits: TypeAlias = dict[str, tuple[Example, ...]]

UNSPLIT = "all"
"""Where rows go that nobody has assigned to a split."""
_SAME = {
    "training": "train",
    "validation": "dev",
    "valid": "dev",
    "val": "dev",
    "development": "dev",
    "testing": "test",
}


def split_name(name: str) -> str:
    """Return the name that a split has here: `validation` is `dev`."""
    return _SAME.get(name.lower(), name)


def is_split_name(name: str) -> bool:
    """Return whether a file of that name holds a split."""
    return split_name(name) in {"train", "dev", "test"}


def chosen(splits: Splits, wanted: Mapping[str, str] | None) -> Splits:
    """Return the wanted splits under new names: `{"test": "validation"}`.

    Raises:
        InputError: One of them does not exist.
    """
    if wanted is None:
        return splits
    for name in wanted.values():
        if split_name(name) not in splits:
            raise InputError(
                f"There is no split {name!r}; there are {', '.join(splits) or 'none'}.",
                hint="use one of those in splits={...}",
            )
    return {new: splits[split_name(old)] for new, old in wanted.items()}


def divided(splits: Splits, test_fraction: float | None) -> Splits:
    """Return a single split divided into `train` and `test`.

    A question's side depends on its text alone, so equal questions stay together and a file that
    grows keeps its division.

    Raises:
        InputError: There is more than one split, or the fraction is not between 0 and 1.
    """
    if test_fraction is None:
        return splits
    if not 0 < test_fraction < 1:
        raise InputError(
            f"`test_fraction` must be between 0 and 1, got {test_fraction}.",
            hint="pass test_fraction=0.2",
        )
    if len(splits) != 1:
        raise InputError(
            f"There are splits already ({', '.join(splits)}).", hint="leave test_fraction out"
        )
    (examples,) = splits.values()
    is_test = {
        one.id: derive_uniform(0, one.question_digest, 0, "split") < test_fraction
        for one in examples
    }
    return {
        "train": tuple(one for one in examples if not is_test[one.id]),
        "test": tuple(one for one in examples if is_test[one.id]),
    }


def kept_apart(splits: Splits) -> tuple[Splits, dict[str, int]]:
    """Return the splits without shared questions, and how many examples each lost.

    A shared question stays in `test` if it is there, and in `train` only if nowhere else.
    """
    order = sorted(splits, key=_claim)
    taken: set[str] = set()
    kept: Splits = {}
    for split in order:
        kept[split] = tuple(one for one in splits[split] if one.question_digest not in taken)
        taken |= {one.question_digest for one in kept[split]}
    lost = {split: len(splits[split]) - len(kept[split]) for split in splits}
    return {split: kept[split] for split in splits}, {k: n for k, n in lost.items() if n}


def _claim(split: str) -> tuple[int, str]:
    return ({TEST_SPLIT: 0, "train": 2}.get(split, 1), split)


def by_split(rows: Sequence[tuple[str | None, Example]], names: Sequence[str] = ()) -> Splits:
    """Return examples gathered by split; `names` are there even if empty."""
    found = {split_name(name): list[Example]() for name in names}
    for name, example in rows:
        found.setdefault(split_name(name or UNSPLIT), []).append(example)
    return {name: tuple(examples) for name, examples in found.items()}
