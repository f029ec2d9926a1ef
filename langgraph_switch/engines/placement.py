"""Where a model's weights are: one device, spread over several, or on the CPU until its turn.

Knows nothing of tokens, of adapters or of who takes turns.
"""

from __future__ import annotations

import contextlib
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from types import TracebackType
from typing import TypeAlias
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from langgraph_switch.errors import EngineOutOfMemoryError

Move: TypeAlias = Callable[[Tensor, torch.device], Tensor]

_CPU = torch.device("cpu")
# Models that share a device take turns: threads that compute at once only slow each other down.
_DEVICE_LOCKS: defaultdict[torch.device, threading.RLock] = defaultdict(threading.RLock)
# Per device the one whose weights visit it now.
_RESIDENTS: WeakValueDictionary[torch.device, Placement] = WeakValueDictionary()


class DeviceTurn:
    """The lock of one or several devices; re-entrant. Taken in one order, so nobody deadlocks."""

    def __init__(self, devices: Iterable[torch.device]) -> None:
        ordered = sorted(set(devices), key=str)
        self._locks = [_DEVICE_LOCKS[device] for device in ordered]

    def __enter__(self) -> None:
        """Wait for every device."""
        for index, lock in enumerate(self._locks):
            try:
                lock.acquire()
            except BaseException:  # Interrupted while waiting: nobody may wait for us forever.
                for held in reversed(self._locks[:index]):
                    held.release()
                raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        err: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the devices back."""
        for lock in reversed(self._locks):
            lock.release()


class Placement:
    """Holds a module where it was put; an offloaded one visits its device for its turns.

    Of the offloaded models of a device one is there at a time: it stays until another comes, so
    that who keeps the floor is not moved. Weights never change, so the copy on the CPU stays and
    nothing is copied back.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        device: torch.device | None = None,
        is_offloaded: bool = False,
        source: str = "",
        move: Move = Tensor.to,
    ) -> None:
        """Describe where a module is.

        Args:
            module: The model; where it is offloaded, all of it is on the CPU.
            device: Where it computes; by default where it is.
            is_offloaded: Whether its weights are on `device` for its turns only.
            source: What to call it in messages.
            move: Copies a tensor to a device.
        """
        spread = devices_of(module)
        self.device = device or spread[0]
        """Where its inputs go."""
        self.devices = (self.device,) if is_offloaded else tuple(dict.fromkeys(spread))
        self.turn = DeviceTurn(self.devices)
        self._module = module
        self._is_offloaded = is_offloaded
        self._source = source
        self._move = move
        self._at_home: dict[int, Tensor] = {}  # Tensors of the CPU while their copies are away.

    @property
    def is_resident(self) -> bool:
        """Whether the weights are where they compute."""
        return not self._is_offloaded or _RESIDENTS.get(self.device) is self

    @property
    def is_in_one_place(self) -> bool:
        """Whether the weights are on one device and stay there."""
        return not self._is_offloaded and len(self.devices) == 1

    def arrive(self) -> None:
        """Bring the weights to their device; call with `turn` held.

        Raises:
            EngineOutOfMemoryError: The device cannot hold them.
        """
        if self.is_resident:
            return
        if (other := _RESIDENTS.pop(self.device, None)) is not None:
            other.leave()
        try:
            with _plain_tensors():
                for key, holder in _tensors(self._module).items():
                    self._at_home[key] = holder.data
                    holder.data = self._move(holder.data, self.device)
        except (RuntimeError, MemoryError) as err:
            self.leave()
            raise EngineOutOfMemoryError(
                f"{self.device} has too little memory for the weights of {self._source!r}, even "
                "alone.",
                hint="give this model another `device`, a `device_map`, or a smaller `dtype`",
            ) from err
        _RESIDENTS[self.device] = self

    def leave(self) -> None:
        """Make the weights those on the CPU again."""
        if _RESIDENTS.get(self.device) is self:
            del _RESIDENTS[self.device]
        with _plain_tensors():
            for key, holder in _tensors(self._module).items():
                # An adapter that was loaded meanwhile has no copy at home yet.
                at_home = self._at_home.pop(key, None)
                holder.data = holder.data.to(_CPU) if at_home is None else at_home


def devices_of(module: nn.Module) -> list[torch.device]:
    """Return the devices on which a module computes, that of its inputs first.

    A module that accelerate has spread says so; what it holds on the CPU or on disk for a device
    computes there.
    """
    spread: dict[str, int | str | torch.device] = vars(module).get("hf_device_map", {})
    placed = [
        torch.device(f"cuda:{one}" if isinstance(one, int) else str(one))
        for one in spread.values()
        if one not in {"disk", "meta"}
    ]
    computing = [one for one in placed if one.type != "cpu"] or placed
    if computing:
        return [*computing, *(one for one in placed if one not in computing)]
    return [next(iter(module.parameters())).device]


def _tensors(module: nn.Module) -> dict[int, Tensor]:
    """Return parameters and buffers, each once however often it is tied."""
    return {id(one): one for one in chain(module.parameters(), module.buffers())}


@contextlib.contextmanager
def _plain_tensors() -> Iterator[None]:
    with torch.inference_mode(mode=False), torch.no_grad():
        yield
