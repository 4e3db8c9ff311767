"""From what a call told of itself to the containers that it is charged for."""

from collections.abc import Sequence

from ledger.containers import ContainerUse, Usage
from modal_apps.announce import Announcement
from modal_apps.envelope import Envelope
from modal_apps.gpus import parse as parse_gpu

MILLISECONDS = 1000


def of_envelope(envelope: Envelope, *, gpu: str, idle_window_s: float) -> Usage:
    """A call that answered: containers that died at it before, and the one that answered, which now idles."""
    timings = envelope.timings
    starts = [*envelope.earlier, (envelope.container_id, timings.container_started_at)]
    return _usage(starts, timings.finished_at, gone=False, gpu=gpu, idle_window_s=idle_window_s)


def of_announcement(announcement: Announcement | None, *, ended_at: float, gpu: str, idle_window_s: float) -> Usage:
    """A call that never answered: its containers until `ended_at` (an upper bound), seconds since 1970.

    A call that never announced itself never began, and is charged nothing.
    """
    starts = [(start.container_id, start.started_at) for start in announcement.containers] if announcement else []
    return _usage(starts, ended_at, gone=True, gpu=gpu, idle_window_s=idle_window_s)


def _usage(
    starts: Sequence[tuple[str, float]], ended_at: float, *, gone: bool, gpu: str, idle_window_s: float
) -> Usage:
    """Each container is charged until the next one began; the last until the end."""
    uses = []
    for number, (name, began) in enumerate(starts):
        is_last = number == len(starts) - 1
        end = ended_at if is_last else starts[number + 1][1]
        uses.append(
            ContainerUse(
                container_id=name,
                started_ms=round(began * MILLISECONDS),
                finished_ms=round(max(began, end) * MILLISECONDS),
                gone=gone or not is_last,
            )
        )
    return Usage(uses, usd_nanos_per_s=parse_gpu(gpu).price_usd_nanos_per_s(), idle_window_s=idle_window_s)
