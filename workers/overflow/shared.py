"""The process's one way to Modal: its handles are bound once, and spawner and follower share them."""

from functools import cache

from infra.settings import Settings, settings
from workers.overflow.breaker import BreakerRules
from workers.overflow.calls import ModalCalls
from workers.overflow.gate import Gate
from workers.overflow.sdk import ModalRenderer
from workers.overflow.spawner import Spawner
from workers.resources import shared_resources


@cache
def modal_calls() -> ModalCalls:
    """The renderer that the settings name, by the token in the environment."""
    values = settings()
    return ModalRenderer(
        app_name=values.modal_app,
        environment=values.modal_environment,
        max_result_bytes=values.max_result_bytes,
        trainer_app=values.train_modal_app,
    )


def breaker_rules(values: Settings) -> BreakerRules:
    """When the breaker opens and closes, as the settings say."""
    return BreakerRules(
        failures=values.breaker_failures, window_s=values.breaker_window_s, open_s=values.breaker_open_s
    )


@cache
def gate() -> Gate:
    """What this process sees of the breaker that all share."""
    return Gate(shared_resources().ledger, breaker_rules(settings()))


@cache
def spawner() -> Spawner:
    """The process's one spawner: nudges that come while it works join it."""
    open_ends = shared_resources()
    return Spawner(open_ends, modal_calls(), gate())
