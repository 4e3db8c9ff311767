"""One API and one ledger for a module's tests: `api` speaks as the tenant `default`, `acme` as another one."""

from collections.abc import Iterator

import httpx
import pytest

from overspill.dev.s3_service import S3Service
from tests.integration.api.conftest import api, module_api
from tests.integration.workers.conftest import ledger, resources, s3
from tests.support.api_server import OTHER_KEY, RunningApi

__all__ = ["S3Service", "api", "ledger", "module_api", "resources", "s3"]


@pytest.fixture
def acme(api: RunningApi) -> Iterator[httpx.Client]:
    """The neighbour."""
    headers = {"Authorization": f"Bearer {OTHER_KEY}"}
    with httpx.Client(base_url=api.url, headers=headers, timeout=30) as client:
        yield client
