"""One class's trouble does not end a round of the idle watch."""

import asyncio
from types import SimpleNamespace
from typing import Any

from ledger import Kind
from ledger.outcomes import EndedEarly
from workers.overflow.containers import IdleWatch
from workers.overflow.modal_sdk.port import PoolStats


def test_an_error_about_one_class_does_not_keep_the_others_from_being_compared() -> None:
    # Given idle containers of two classes, and an error of ours about the first
    compared: list[str] = []

    def idle_ended(kind: Kind, *, gpu: str, **_: Any) -> EndedEarly:
        compared.append(gpu)
        if gpu == "H100":
            raise ValueError("odd")
        return EndedEarly(0, 0)

    async def pool(gpu: str, **_: Any) -> PoolStats:
        return PoolStats(0, 1, 0)

    ledger: Any = SimpleNamespace(
        modal_calls=SimpleNamespace(
            idle_pools=lambda: [(Kind.RENDER, "H100"), (Kind.RENDER, "H200")], idle_ended=idle_ended
        ),
    )
    modal: Any = SimpleNamespace(pool=pool)
    # When a round is made
    asyncio.run(IdleWatch(ledger, modal).compare())
    # Then both were compared
    assert compared == ["H100", "H200"]
