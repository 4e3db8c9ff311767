"""Workers without Celery around them: a real Redis, a real S3 server, and everything else as in production."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from infra.artifacts import ArtifactStore
from infra.settings import Settings
from ledger import Ledger
from ledger.nudges import Nudge
from overspill.dev.s3_service import S3Service
from tests.support.ledgers import fresh_ledger
from tests.support.redis_server import RedisServer
from tests.support.settings import settings_of
from workers.resources import Resources


@dataclass
class RecordingNudger:
    """Remembers nudges instead of sending them."""

    sent: list[Nudge] = field(default_factory=list)

    def send(self, nudge: Nudge) -> bool:
        self.sent.append(nudge)
        return True

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Service]:
    folder = tmp_path_factory.mktemp("s3")
    service = S3Service(folder / "data", logs=folder, access_key_id="key-of-tests", secret_access_key="secret-of-tests")
    service.start()
    service.ready()
    yield service
    service.stop()


@pytest.fixture
def ledger(redis_server: RedisServer) -> Iterator[Ledger]:
    with fresh_ledger(redis_server.url()) as fresh:
        yield fresh


def settings_for(ledger: Ledger, s3: S3Service | None = None, **fields: object) -> Settings:
    """The settings of a worker on this ledger and this S3."""
    named = {name.removeprefix("OVERSPILL_").lower(): value for name, value in (s3.environment if s3 else {}).items()}
    return settings_of(
        {
            "ledger_url": ledger.settings.url.get_secret_value(),
            "ledger_prefix": ledger.prefix,
            "s3_timeout_s": 2,
            **named,
            **fields,
        }
    )


@pytest.fixture
def resources(ledger: Ledger, s3: S3Service) -> Resources:
    values = settings_for(ledger, s3)
    nudger = RecordingNudger()
    return Resources(values, ledger, ArtifactStore(values), nudger)  # type: ignore[arg-type]  # the port's one method
