"""`python -m monitoring.exporter`: serve metrics until SIGINT or SIGTERM."""

import signal
import sys
import threading

import structlog

from infra.logs import configure_logging
from infra.settings import settings as read_settings
from monitoring.exporter.server import Exporter

log = structlog.get_logger(__name__)


def main() -> int:
    """Run until asked to stop."""
    settings = read_settings()
    configure_logging(settings)
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    try:
        exporter = Exporter(settings)
    except OSError as error:
        sys.stderr.write(
            f"overspill: expected to listen on {settings.exporter.host}:{settings.exporter.port}, got: "
            f"{error.strerror}. Set OVERSPILL_EXPORTER_PORT to a free port, or to 0.\n"
        )
        return 1
    exporter.start()
    sys.stdout.write(f"exporter listens on {exporter.url}\n")
    sys.stdout.flush()
    log.info("exporter.listening", url=exporter.url)
    stopping.wait()
    exporter.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
