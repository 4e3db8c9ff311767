"""The process's one way to Modal: its handles are bound once, and spawner and follower share them."""

from functools import cache

from workers.overflow.calls import ModalCalls, ModalRenderer
from workers.settings import settings


@cache
def modal_calls() -> ModalCalls:
    """The renderer that the settings name, by the token in the environment."""
    values = settings()
    return ModalRenderer(app_name=values.modal_app, environment=values.modal_environment)
