"""The peak of GPU memory as a share of the GPU's, and nothing where nothing was measured."""

import sys
from types import SimpleNamespace

import pytest

from workers.gpu_memory import gpu_memory_bytes, peak_gpu_memory

GIB = 1024**3


@pytest.mark.parametrize(
    ("measurements", "total_bytes", "expected"),
    [
        ({"peak_gpu_memory_bytes": 76 * GIB}, 80 * GIB, {"peak_gpu_memory_ratio": 0.95}),
        ({"peak_gpu_memory_bytes": 0}, 80 * GIB, {"peak_gpu_memory_ratio": 0.0}),
        # On a CPU the engine says that there was none; another says nothing at all.
        ({"peak_gpu_memory_bytes": None}, 80 * GIB, {}),
        ({"peak_memory_bytes": GIB}, 80 * GIB, {}),
        ({"peak_gpu_memory_bytes": 76 * GIB}, None, {}),
    ],
)
def test_the_peak_is_a_share_of_the_gpus_memory(
    measurements: dict[str, object], total_bytes: int | None, expected: dict[str, float]
) -> None:
    # given what an engine and the card say / then the share is known where both are, and nothing is made up elsewhere
    assert peak_gpu_memory(measurements, total_bytes) == expected


def _torch(*, initialized: bool) -> object:
    """As much of torch as is asked, with two cards of which the second is worked on."""
    cards = [SimpleNamespace(total_memory=24 * GIB), SimpleNamespace(total_memory=80 * GIB)]
    cuda = SimpleNamespace(
        is_initialized=lambda: initialized, current_device=lambda: 1, get_device_properties=lambda number: cards[number]
    )
    return SimpleNamespace(cuda=cuda)


@pytest.mark.parametrize(("initialized", "expected"), [(True, 80 * GIB), (False, None)])
def test_the_memory_is_that_of_the_card_that_is_worked_on(
    monkeypatch: pytest.MonkeyPatch, *, initialized: bool, expected: int | None
) -> None:
    # given a process with torch, which works on a GPU or not / then it says what its card has
    monkeypatch.setitem(sys.modules, "torch", _torch(initialized=initialized))
    assert gpu_memory_bytes() == expected


def test_no_torch_is_loaded_to_find_out(monkeypatch: pytest.MonkeyPatch) -> None:
    # given a process that has no torch / then nothing is said, and torch is still not loaded
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert gpu_memory_bytes() is None
    assert "torch" not in sys.modules
