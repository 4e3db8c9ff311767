"""Settings: read from the environment, checked at start, wrong ones named, every one on its page."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from infra import settings as module
from infra.settings import Settings, groups
from infra.settings.listing import ELSEWHERE, Source, rows, unknown
from infra.settings.page import PAGE, page
from tests.support.settings import settings_of

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _read_anew() -> None:
    module.settings.cache_clear()


def test_keys_belong_to_tenants() -> None:
    values = settings_of({"api_keys": "a-plain-key-of-24-letters, acme=s3cret-s3cret-s3cret ,"})
    assert values.api.tenants_by_key == {"a-plain-key-of-24-letters": "default", "s3cret-s3cret-s3cret": "acme"}


def test_secrets_do_not_show() -> None:
    values = settings_of(
        {"api_keys": "hush-hush-hush-hush", "ledger_url": "redis://:hush@h/0", "s3_secret_access_key": "hush"}
    )
    assert "hush" not in repr(values)
    assert "hush" not in repr(list(rows(values, {})))


def test_watermarks_must_be_in_order() -> None:
    with pytest.raises(ValidationError, match="low_watermark <= high_watermark"):
        settings_of({"low_watermark": 9, "high_watermark": 8})


def test_a_field_that_nobody_declared_is_an_error() -> None:
    # given a misspelt field / when the group is made / then it is refused, not ignored
    with pytest.raises(ValidationError, match="bukket"):
        module.S3Settings.model_validate({"bukket": "b"})


def test_every_wrong_variable_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # given variables of several groups that are out of bounds, of the wrong type, no JSON, or wrong within
    wrong = {
        "OVERSPILL_LEASE_S": "soon",
        "OVERSPILL_S3_BUCKET": "b",
        "OVERSPILL_PRESIGN_TTL_S": "0",
        "OVERSPILL_MODAL_RENDER_CLASSES": "H100",
        "OVERSPILL_KIND_MONTH_CAPS_USD": '{"sing": 1}',
    }
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)
    # when the process reads them
    with pytest.raises(SystemExit) as stopped:
        module.settings()
    # then one message names each of them
    lines = str(stopped.value).splitlines()[1:]
    assert {name for name in wrong if any(line.startswith(name) for line in lines)} == set(wrong)


def test_settings_that_contradict_each_other_are_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERSPILL_MODAL_PRICES_USD_PER_HOUR", '{"H100": 0}')
    with pytest.raises(SystemExit, match="expected a price above 0 dollars an hour for the GPU class H100"):
        module.settings()


def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch) -> None:
    # given what a compose file passes on for a variable that nobody set
    monkeypatch.setenv("OVERSPILL_DAY_CAP_USD", "")
    monkeypatch.setenv("OVERSPILL_MODAL_RENDER_CLASSES", "")
    # when the settings are read / then the defaults hold
    values = Settings()
    assert values.budget.day_cap_usd is None
    assert values.modal.render_classes == ("H100", "H200")


def test_rows_tell_the_value_its_source_and_whether_it_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    # given one value that is set to another, and one that is set to its default
    environment = {"OVERSPILL_LEASE_S": "7", "OVERSPILL_HIGH_WATERMARK": "8"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    # when they are listed
    by_name = {row.variable: row for row in rows(Settings(), environment)}
    # then
    lease, watermark, low = (by_name[f"OVERSPILL_{name}"] for name in ("LEASE_S", "HIGH_WATERMARK", "LOW_WATERMARK"))
    assert (lease.value, lease.default, lease.source, lease.differs) == ("7", "10", Source.ENVIRONMENT, True)
    assert (watermark.source, watermark.differs) == (Source.ENVIRONMENT, False)
    assert (low.source, low.differs) == (Source.DEFAULT, False)


def test_a_password_in_an_address_is_masked_and_the_host_is_not() -> None:
    values = settings_of(ledger_url="rediss://worker:hush@redis.example:6380/0")
    shown = next(row.value for row in rows(values, {}) if row.variable == "OVERSPILL_LEDGER_URL")
    assert shown == "rediss://worker:***@redis.example:6380/0"


def test_a_variable_that_nothing_reads_is_found_with_the_nearest_name() -> None:
    environment = {"OVERSPILL_S3_BUKET": "b", "OVERSPILL_WEATHER": "fine", "OVERSPILL_LEASE_S": "7", "PATH": "/bin"}
    assert list(unknown(environment)) == [("OVERSPILL_S3_BUKET", "OVERSPILL_S3_BUCKET"), ("OVERSPILL_WEATHER", None)]


def test_every_setting_is_described_and_its_variable_is_its_own() -> None:
    variables = [model.variable(name) for _, model in groups() for name in model.model_fields]
    assert len(variables) == len(set(variables))
    for _, model in groups():
        assert model.__doc__
        for name, field in model.model_fields.items():
            assert field.description, name
            assert field.description.endswith((".", "`.")), name


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: make docs"


def test_every_variable_that_the_code_names_is_on_the_page() -> None:
    # given what production code and the Procfile name
    known = {model.variable(name) for _, model in groups() for name in model.model_fields}
    known |= {entry.variable for entry in ELSEWHERE}
    rooms = ("api", "engines", "infra", "ledger", "modal_apps", "monitoring", "overspill", "tasks", "workers")
    paths = [REPOSITORY / "Procfile", *(path for room in rooms for path in (REPOSITORY / room).rglob("*.py"))]
    # when it is compared / then each is declared (a name that ends with `_` is a prefix)
    named = {
        (variable, path.name)
        for path in paths
        for variable in re.findall(r"\bOVERSPILL_[A-Z0-9_]*[A-Z0-9]\b", path.read_text(encoding="utf-8"))
    }
    assert {entry for entry in named if entry[0] not in known} == set()
