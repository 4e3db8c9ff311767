"""The settings with their values in force, as rows: for `overspill settings` and for `doctor`.

Variables that no group declares, because a process of another room reads them, stand here in `ELSEWHERE`.
"""

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import SecretStr

from infra.settings import Settings, groups
from ledger.settings import Group

#: What is shown of a secret.
MASK = "(set)"
PREFIX = "OVERSPILL_"


class Source(StrEnum):
    """Where a value comes from."""

    ENVIRONMENT = "environment"
    DEFAULT = "default"


@dataclass(frozen=True)
class Row:
    """One setting: what it is, and what it is now."""

    group: str
    variable: str
    value: str
    default: str
    source: Source
    description: str

    @property
    def differs(self) -> bool:
        """The value in force is not the default."""
        return self.value != self.default


@dataclass(frozen=True)
class Elsewhere:
    """A variable that a process of another room reads."""

    variable: str
    default: str
    read_by: str
    description: str


ELSEWHERE = (
    Elsewhere("OVERSPILL_API_PORT", "8000", "Procfile", "Port of the API."),
    Elsewhere("OVERSPILL_FLOWER_PORT", "5555", "Procfile", "Port of Flower."),
    Elsewhere("FLOWER_BASIC_AUTH", "", "Procfile", "`user:password` of Flower. Flower does not start without it."),
    Elsewhere("OVERSPILL_STATE", ".overspill", "overspill", "State folder of the stack that `overspill up` runs."),
    Elsewhere("OVERSPILL_API_URL", "", "overspill up, doctor", "Address of the API of a running stack."),
    Elsewhere("OVERSPILL_API_KEY", "", "overspill up", "A key of that API, for the examples."),
    Elsewhere("OVERSPILL_EXPORTER_URL", "", "overspill up, doctor", "Address of the exporter of a running stack."),
    Elsewhere("OVERSPILL_FLOWER_URL", "", "overspill up, doctor", "Address of Flower of a running stack."),
    Elsewhere("OVERSPILL_PROMETHEUS_URL", "", "overspill up", "Address of Prometheus of a running stack."),
    Elsewhere("OVERSPILL_MODAL_TIMEOUT_S", "1800", "modal deploy", "Timeout of a render call on Modal, seconds."),
    Elsewhere("OVERSPILL_MODAL_MAX_CONTAINERS", "50", "modal deploy", "Containers of the renderer, for each class."),
    Elsewhere(
        "OVERSPILL_MODAL_TRAIN_MAX_CONTAINERS", "10", "modal deploy", "Containers of the trainer, for each class."
    ),
    Elsewhere(
        "OVERSPILL_MODAL_MAX_RESULT_BYTES", str(256 * 1024**2), "modal deploy", "Longest video of a call, bytes."
    ),
    Elsewhere("OVERSPILL_MODAL_DATA_BUCKET_SECRET", "", "modal deploy", "Modal secret with the data bucket's keys."),
    Elsewhere("OVERSPILL_MODAL_DATA_BUCKET_ENDPOINT", "", "modal deploy", "S3 server of the data bucket; empty: AWS."),
    Elsewhere("OVERSPILL_DIT_CHECKPOINT", "", "engine `dit`", "Folder of the checkpoint that `dit` renders with."),
    Elsewhere("OVERSPILL_DIT_CHECKPOINTS", "", "engine `dit`", "Folder of the checkpoints that `dit:<job>` names."),
    Elsewhere("MODAL_TOKEN_ID", "", "Modal's SDK", "Service token of Modal."),
    Elsewhere("MODAL_TOKEN_SECRET", "", "Modal's SDK", "Its secret."),
    Elsewhere("MODAL_SERVER_URL", "", "Modal's SDK", "Another control plane, such as modal_local's."),
)


def rows(values: Settings, environment: Mapping[str, str]) -> Iterator[Row]:
    """Every setting with its value in force. Secrets are masked."""
    known = {name.upper() for name in environment}
    for group, model in groups():
        held: Group = getattr(values, group)
        for name, info in model.model_fields.items():
            variable = model.variable(name)
            yield Row(
                group=group,
                variable=variable,
                value=as_text(getattr(held, name)),
                default=as_text(info.get_default(call_default_factory=True, validated_data={})),
                source=Source.ENVIRONMENT if variable in known else Source.DEFAULT,
                description=info.description or "",
            )


def unknown(environment: Mapping[str, str]) -> Iterator[tuple[str, str | None]]:
    """Variables that start with `OVERSPILL_` and that nothing reads, each with the nearest known name."""
    known = {model.variable(name) for _, model in groups() for name in model.model_fields}
    known |= {entry.variable for entry in ELSEWHERE}
    # Without the prefix: it would make any two names look alike.
    short = {name.removeprefix(PREFIX): name for name in known}
    for name in sorted(environment):
        if name.startswith(PREFIX) and name not in known:
            nearest = difflib.get_close_matches(name.removeprefix(PREFIX), short, n=1, cutoff=0.8)
            yield name, short[nearest[0]] if nearest else None


def as_text(value: Any) -> str:
    """A value as its variable would say it; a secret masked."""
    match value:
        case None:
            return ""
        case SecretStr():
            secret = value.get_secret_value()
            return _without_password(secret) if "://" in secret else (MASK if secret else "")
        case bool():
            return str(value).lower()
        case float():
            return f"{value:.12g}"
        case tuple() | list() | dict():
            plain = {str(key): part for key, part in value.items()} if isinstance(value, dict) else list(value)
            return json.dumps(plain, ensure_ascii=False)
        case _:
            return str(value)


def _without_password(address: str) -> str:
    scheme, _, rest = address.partition("://")
    login, at, host = rest.rpartition("@")
    if not at:
        return address
    return f"{scheme}://{login.partition(':')[0]}:***@{host}"
