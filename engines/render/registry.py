"""Which engines there are. An engine's module is imported when it is first asked for, and not before."""

from __future__ import annotations

import importlib
from typing import Final, cast

from engines.render.contract import RenderEngine
from engines.render.errors import UnknownEngine

# Name -> module and class. A name never changes its meaning: jobs in the ledger carry it.
_ENGINES: Final = {
    "dit": ("engines.render.dit.engine", "DitEngine"),
    "procedural": ("engines.render.procedural.engine", "ProceduralEngine"),
}
#: Engines that take a model's name behind a colon (`dit:ftjob_...`), which they read from the request themselves.
_TAKE_A_MODEL: Final = frozenset({"dit"})


def engine_names() -> tuple[str, ...]:
    """The names of all engines, sorted; imports none of them."""
    return tuple(sorted(_ENGINES))


def get_engine(name: str) -> RenderEngine:
    """Imports and makes the engine called `name`.

    Raises:
        UnknownEngine: No engine has that name.
    """
    base, colon, _ = name.partition(":")
    if base not in _ENGINES or (colon and base not in _TAKE_A_MODEL):
        raise UnknownEngine(name, engine_names())
    module_name, class_name = _ENGINES[base]
    engine_class = getattr(importlib.import_module(module_name), class_name)
    return cast("RenderEngine", engine_class())
