"""Settings: read from the environment, checked at start, wrong ones named."""

import pytest
from pydantic import ValidationError

from infra import settings as module
from infra.settings import Settings


def test_keys_belong_to_tenants() -> None:
    values = Settings.model_validate({"api_keys": "a-plain-key-of-24-letters, acme=s3cret-s3cret-s3cret ,"})
    assert values.tenants_by_key == {"a-plain-key-of-24-letters": "default", "s3cret-s3cret-s3cret": "acme"}


def test_secrets_do_not_show() -> None:
    values = Settings.model_validate(
        {"api_keys": "hush-hush-hush-hush", "ledger_url": "redis://:hush@h/0", "s3_secret_access_key": "hush"}
    )
    assert "hush" not in repr(values)


def test_watermarks_must_be_in_order() -> None:
    with pytest.raises(ValidationError, match="low_watermark <= high_watermark"):
        Settings.model_validate({"low_watermark": 9, "high_watermark": 8})


def test_a_wrong_variable_stops_the_process_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERSPILL_LEASE_S", "soon")
    module.settings.cache_clear()
    with pytest.raises(SystemExit, match="OVERSPILL_LEASE_S"):
        module.settings()
    module.settings.cache_clear()


def test_every_setting_is_described() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
