from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Two threads on a shared machine make small models many times slower."""
    torch.set_num_threads(1)
