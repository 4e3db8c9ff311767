"""What is outside our process: S3, Modal, and our own workers."""

import os
import threading
from collections.abc import Callable

from kombu.exceptions import OperationalError

from infra.artifacts import ArtifactStore, ArtifactStoreUnavailable
from infra.celery_config import make_celery, queue_names
from infra.settings import Settings
from ledger import Kind, Ledger, LedgerError
from modal_apps.names import RENDERER_CLASS
from overspill.cli.checks.finding import Finding, note, ok, wrong

_MODAL_TIMEOUT_S = 15.0
_CELERY_TIMEOUT_S = 1.5


def s3(settings: Settings) -> Finding:
    """The bucket takes, gives and removes an object."""
    where = f"{settings.s3_endpoint_url or 'AWS'}, bucket {settings.s3_bucket}"
    try:
        ArtifactStore(settings).check()
    except ArtifactStoreUnavailable as error:
        return wrong("s3", f"{where}: {error.reason}", "check OVERSPILL_S3_* and that the bucket exists")
    return ok("s3", f"{where} can be written")


def modal(settings: Settings) -> Finding:
    """The token is taken, and our app is deployed."""
    if settings.max_modal_attempts == 0:
        return note("modal", "OVERSPILL_MAX_MODAL_ATTEMPTS=0: nothing may run on Modal")
    if not os.environ.get("MODAL_TOKEN_ID") or not os.environ.get("MODAL_TOKEN_SECRET"):
        return wrong("modal", "no token in the environment", "set MODAL_TOKEN_ID and MODAL_TOKEN_SECRET")
    where = os.environ.get("MODAL_SERVER_URL") or "Modal"
    error = answer_within(lambda: _look_up(settings), _MODAL_TIMEOUT_S)
    if not isinstance(error, BaseException):
        return ok("modal", f"{where} has {settings.modal_app} deployed")
    remedies = {
        "NotFoundError": "deploy it with `modal deploy -m modal_apps.renderer`",
        "AuthError": "make a new token with `modal token new`, and set MODAL_TOKEN_ID and MODAL_TOKEN_SECRET",
    }
    remedy = remedies.get(type(error).__name__, "check MODAL_SERVER_URL and the network")
    said = " ".join(str(error).split()) or type(error).__name__
    return wrong("modal", f"{where}: {said.rstrip('.')}", remedy)


def _look_up(settings: Settings) -> None:
    import modal as sdk  # noqa: PLC0415 - heavy, and most checks do without

    sdk.Cls.from_name(settings.modal_app, RENDERER_CLASS, environment_name=settings.modal_environment).hydrate()


def answer_within(look: Callable[[], object], timeout_s: float) -> object:
    """What `look` returned, or what it raised, or a TimeoutError. The SDK itself would try for minutes."""
    outcome: list[object] = []

    def run() -> None:
        try:
            outcome.append(look())
        except BaseException as error:  # noqa: BLE001  # it is the finding
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True, name="doctor-modal")
    thread.start()
    thread.join(timeout_s)
    return outcome[0] if outcome else TimeoutError(f"no answer within {timeout_s:g} s")


def slots(settings: Settings) -> Finding:
    """In-house GPU workers, by their leases."""
    try:
        with Ledger(settings) as ledger:
            view = ledger.placing.view()
    except LedgerError as error:
        return wrong("slots", str(error), "mend the ledger first")
    live = {kind: view.of(kind).live_slots for kind in Kind}
    words = ", ".join(f"{count} for {kind}" for kind, count in live.items())
    if not any(live.values()):
        return wrong("slots", "no in-house GPU worker lives", "start the `gpu` process of the Procfile")
    return ok("slots", f"{words}; {view.of(Kind.RENDER).waiting_inhouse} renders wait")


def queues(settings: Settings) -> Finding:
    """Every queue has a worker that reads it."""
    app = make_celery(settings)
    try:
        answers = app.control.inspect(timeout=_CELERY_TIMEOUT_S).active_queues() or {}
    except (OperationalError, OSError) as error:
        return wrong("queues", f"the workers cannot be asked: {error}", "mend the broker first")
    finally:
        app.close()
    read = {queue["name"] for queues_of_one in answers.values() for queue in queues_of_one}
    unread = [name for name in queue_names() if name not in read]
    if unread:
        return wrong("queues", f"nobody reads {', '.join(unread)}", "start the Procfile's dispatch, gpu and overflow")
    return ok("queues", f"all are read, by {', '.join(sorted(answers))}")
