"""Settings with some values of a test's own, each named as its variable is: `s3_bucket` is OVERSPILL_S3_BUCKET."""

from collections.abc import Mapping
from typing import Any

from infra.settings import Settings, groups
from ledger import LedgerSettings


def settings_of(values: Mapping[str, object] | None = None, **more: object) -> Settings:
    """The environment's settings with these values."""
    chosen = _by_group({**(values or {}), **more})
    return Settings.model_validate({group: model(**chosen[group]) for group, model in groups() if group in chosen})


def settings_from(environment: Mapping[str, str]) -> Settings:
    """The settings of a process that has these variables. Others than settings are left out."""
    known = {model.variable(name) for _, model in groups() for name in model.model_fields}
    return settings_of(
        {name.removeprefix("OVERSPILL_").lower(): value for name, value in environment.items() if name in known}
    )


def changed(settings: Settings, **values: object) -> Settings:
    """Other settings with some values changed."""
    chosen = _by_group(values)
    return settings.model_copy(
        update={group: getattr(settings, group).model_copy(update=fields) for group, fields in chosen.items()}
    )


def ledger_settings_of(values: Mapping[str, object] | None = None, **more: object) -> LedgerSettings:
    """The ledger's group alone."""
    return settings_of(values, **more).ledger


def _by_group(values: Mapping[str, object]) -> dict[str, dict[str, Any]]:
    chosen: dict[str, dict[str, Any]] = {}
    known = {}
    for group, model in groups():
        for name in model.model_fields:
            known[model.variable(name).removeprefix("OVERSPILL_").lower()] = (group, name)
    for variable, value in values.items():
        if variable not in known:
            raise TypeError(f"expected the name of a setting, got {variable}")
        group, name = known[variable]
        chosen.setdefault(group, {})[name] = value
    return chosen
