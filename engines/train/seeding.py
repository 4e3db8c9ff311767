"""Chance, bound to (seed, purpose, step): a run resumed at any step draws what an undisturbed one would have drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def generator(seed: int, purpose: str, step: int = 0) -> torch.Generator:
    """A CPU generator of its own for this purpose and step; on the CPU on every device, so that all draw the same."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{step}".encode()).digest()
    made = torch.Generator()
    made.manual_seed(int.from_bytes(digest[:8], "little") >> 1)
    return made


@contextmanager
def seeded(source: torch.Generator) -> Iterator[None]:
    """Lets torch's own initialisers, which know only the global generator, draw from `source`; then puts it back."""
    before = torch.get_rng_state()
    torch.set_rng_state(source.get_state())
    try:
        yield
    finally:
        torch.set_rng_state(before)
