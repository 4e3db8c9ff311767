"""The burst: twelve render requests, sent to the HTTP API faster than two slots can render."""

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

import httpx

from overspill.dev.errors import DevError

SIZE = "1280x720"
WIDTH, HEIGHT = (int(part) for part in SIZE.split("x"))
SECONDS = 4
FPS = 24

PROMPTS = (
    "A lighthouse at dusk, its beam sweeping over a calm sea",
    "Paper lanterns rising over a river on a summer night",
    "A red fox trotting through fresh snow under birch trees",
    "Rain on a neon street, umbrellas drifting by",
    "A hot-air balloon above desert dunes at sunrise",
    "Northern lights rippling over a frozen lake",
    "Cherry blossoms falling on an old stone bridge",
    "A tiny robot watering sunflowers on a rooftop",
    "Waves of golden wheat before a thunderstorm",
    "A sailing ship among glowing jellyfish at midnight",
    "A city of glass towers waking in the morning fog",
    "A comet crossing the stars above snowy mountains",
)
#: Time between two arrivals, seconds: some four times as fast as two slots on two cores can render.
ARRIVAL_EVERY_S = 0.25
_TIMEOUT_S = 30.0


class RequestRefused(DevError):
    """The API did not take a request of ours."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"expected the API to accept a render, got: {reason}.")


class Burst:
    """Sends what is due when it is asked to. Use it in a `with` block: it holds a connection.

    Args:
        api_url: the API's address.
        api_key: a key that it takes.
        prompts: what is asked for, one request each.
        extra: more fields of the request with this number (0 is the first).
    """

    def __init__(
        self,
        api_url: str,
        api_key: str,
        prompts: Sequence[str],
        *,
        extra: Callable[[int], Mapping[str, object]] = lambda _: {},
    ) -> None:
        self._prompts = prompts
        self._extra = extra
        self._client = httpx.Client(
            base_url=api_url,
            headers={"Authorization": f"Bearer {api_key}"},
            timeout=_TIMEOUT_S,
            trust_env=False,  # loopback is not for proxies
        )
        self.ids: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    @property
    def is_over(self) -> bool:
        """Whether all have been sent."""
        return len(self.ids) == len(self._prompts)

    def send_due(self, elapsed_s: float) -> None:
        """Send the next request, if its time has come.

        Raises:
            RequestRefused: the API did not accept it.
        """
        if self.is_over or elapsed_s < len(self.ids) * ARRIVAL_EVERY_S:
            return
        number = len(self.ids)
        body: dict[str, object] = {
            "prompt": self._prompts[number],
            "seconds": str(SECONDS),
            "size": SIZE,
            "fps": FPS,
            "seed": number,
        }
        body |= self._extra(number)
        try:
            answer = self._client.post("/v1/videos", json=body)
            facts = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise RequestRefused(str(error) or type(error).__name__) from error
        if not answer.is_success:
            raise RequestRefused(f"{answer.status_code} {facts.get('error', {}).get('message', facts)}")
        self.ids.append(facts["id"])
