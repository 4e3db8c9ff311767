"""Where the ledger is, and how long anybody waits for it. Read from `OVERSPILL_...` in the environment.

`Group` is the base of every group of settings, here and in infra/settings.
"""

from typing import Any

from pydantic import Field, SecretStr, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from ledger.nudges import NUDGE_KEY_MIN_CHARS
from ledger.quotas import Quotas, TenantQuota


def group(prefix: str) -> SettingsConfigDict:
    """The configuration of a group whose variables start with a prefix; a field with an alias names its own."""
    return SettingsConfigDict(
        env_prefix=prefix,
        extra="forbid",
        frozen=True,
        populate_by_name=True,
        env_ignore_empty=True,
        hide_input_in_errors=True,
    )


class Group(BaseSettings):
    """Settings of one subject. A field that nobody declared is an error."""

    model_config = group("OVERSPILL_")

    @classmethod
    def variable(cls, name: str) -> str:
        """The environment variable of a field."""
        info: FieldInfo = cls.model_fields[name]
        alias: Any = info.validation_alias
        return alias if isinstance(alias, str) else f"{cls.model_config.get('env_prefix', '')}{name}".upper()


class LedgerSettings(Group):
    """What the ledger and the client need."""

    model_config = group("OVERSPILL_LEDGER_")

    url: SecretStr = Field(
        default=SecretStr("redis://127.0.0.1:6379/0"),
        description="Redis of the ledger: redis://, rediss:// (TLS) or unix://. May hold a password.",
    )
    broker_url: SecretStr = Field(
        default=SecretStr("redis://127.0.0.1:6379/1"),
        validation_alias="OVERSPILL_BROKER_URL",
        description="Redis of Celery's queues; may be the same server.",
    )
    nudge_keys: SecretStr = Field(
        default=SecretStr(""),
        validation_alias="OVERSPILL_NUDGE_KEYS",
        description="Keys of nudges, comma separated, 16 characters at least: the first signs, each verifies. Set: a "
        "worker drops nudges that carry no good signature. Empty: nudges are not signed.",
    )
    prefix: str = Field(
        default="{overspill}",
        pattern=r"^\{[a-zA-Z0-9_.-]{1,32}\}$",
        description="Key prefix; the braces are its hash tag.",
    )
    timeout_s: float = Field(default=0.8, gt=0, le=60, description="Longest wait for one answer of Redis, seconds.")
    connect_timeout_s: float = Field(default=0.5, gt=0, le=60, description="Longest wait for a connection, seconds.")
    idempotency_ttl_s: int = Field(
        default=86_400,
        ge=60,
        validation_alias="OVERSPILL_IDEMPOTENCY_TTL_S",
        description="How long an idempotency key is remembered, seconds.",
    )
    nudge_again_s: float = Field(
        default=5.0,
        gt=0,
        le=3600,
        validation_alias="OVERSPILL_NUDGE_AGAIN_S",
        description="A job that waits longer than this is nudged again, seconds.",
    )
    events_kept: int = Field(
        default=100_000,
        ge=1_000,
        validation_alias="OVERSPILL_EVENTS_KEPT",
        description="Length of the stream of events, entries.",
    )
    tenant_quota: TenantQuota = Field(
        default=TenantQuota(),
        validation_alias="OVERSPILL_TENANT_QUOTA",
        description="What each tenant may have at once, as JSON: "
        '{"priority": 5, "burst": "auto", "jobs": 1000, "spec_bytes": 10000000, "jobs_per_minute": 60}.',
    )
    tenant_quotas: dict[str, TenantQuota] = Field(
        default_factory=dict,
        validation_alias="OVERSPILL_TENANT_QUOTAS",
        description='The same for a tenant, instead, as JSON: {"acme": {"jobs": 100}}.',
    )

    @field_validator("nudge_keys")
    @classmethod
    def _keys_are_long_enough(cls, value: SecretStr) -> SecretStr:
        if any(len(key) < NUDGE_KEY_MIN_CHARS for key in _split(value)):
            raise ValueError(f"expected keys of {NUDGE_KEY_MIN_CHARS} characters or more")
        return value

    @property
    def quotas(self) -> Quotas:
        """What tenants may have at once."""
        said = bool({"tenant_quota", "tenant_quotas"} & self.model_fields_set)
        return Quotas(everybody=self.tenant_quota, by_tenant=self.tenant_quotas, said=said)

    @property
    def keys_of_nudges(self) -> tuple[str, ...]:
        """The keys of nudges; the first one signs. Empty: nudges are not signed."""
        return _split(self.nudge_keys)


def _split(keys: SecretStr) -> tuple[str, ...]:
    return tuple(key.strip() for key in keys.get_secret_value().split(",") if key.strip())
