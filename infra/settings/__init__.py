"""Every setting of the control plane, declared once: unit, bounds, default and the variable that sets it.

What lives here
    service    S3, the API, placement, attempts, maintenance, Celery, logs, the exporter
    training   train jobs, in-house and on Modal
    overflow   Modal: apps and prices, budget, warm containers, spawns, polls
    A group reads its own variables; ledger/settings.py has the ledger's group, which clients read, too.
    docs/settings.md is written from these models (`make docs`); `overspill settings` prints the values in force.

What must hold
    A setting is read through `settings()` where a process starts, and passed on from there. A value that nobody will
    turn is a constant beside the code that uses it.

Modal's own variables (`MODAL_TOKEN_ID`, `MODAL_TOKEN_SECRET`, `MODAL_SERVER_URL`) are read by Modal's SDK, not here.
"""

from collections.abc import Iterator
from functools import cache
from typing import Self, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import SettingsError

from infra.settings.overflow import (
    MICROS_PER_USD,
    BudgetSettings,
    ModalSettings,
    PollSettings,
    SpawnSettings,
    WarmSettings,
)
from infra.settings.service import (
    ApiSettings,
    AttemptSettings,
    CelerySettings,
    ExporterSettings,
    LogSettings,
    MaintenanceSettings,
    PlacementSettings,
    S3Settings,
)
from infra.settings.training import TrainSettings
from ledger.models import Kind
from ledger.settings import Group, LedgerSettings
from modal_apps.gpus import Profile, parse_resources
from modal_apps.gpus import parse as parse_gpu

__all__ = ["MICROS_PER_USD", "Group", "Settings", "groups", "read_settings", "settings"]

#: A training call may take so much longer than its segment: a last evaluation, its save and its commit, seconds.
TRAIN_SEGMENT_MARGIN_S = 900.0


class Settings(BaseModel):
    """The control plane's settings, by subject. `Settings()` reads the environment."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ledger: LedgerSettings = Field(default_factory=LedgerSettings)
    s3: S3Settings = Field(default_factory=S3Settings)
    api: ApiSettings = Field(default_factory=ApiSettings)
    placement: PlacementSettings = Field(default_factory=PlacementSettings)
    attempts: AttemptSettings = Field(default_factory=AttemptSettings)
    train: TrainSettings = Field(default_factory=TrainSettings)
    modal: ModalSettings = Field(default_factory=ModalSettings)
    budget: BudgetSettings = Field(default_factory=BudgetSettings)
    warm: WarmSettings = Field(default_factory=WarmSettings)
    spawn: SpawnSettings = Field(default_factory=SpawnSettings)
    poll: PollSettings = Field(default_factory=PollSettings)
    maintenance: MaintenanceSettings = Field(default_factory=MaintenanceSettings)
    celery: CelerySettings = Field(default_factory=CelerySettings)
    logs: LogSettings = Field(default_factory=LogSettings)
    exporter: ExporterSettings = Field(default_factory=ExporterSettings)

    @model_validator(mode="after")
    def _every_class_has_a_price(self) -> Self:
        self.modal.prices.check([*self.modal.render_classes, *self.modal.render_fallbacks, *self.train.modal_classes])
        return self

    def price_of(self, kind: Kind, gpu: str) -> int:
        """What a container of a class costs each second for a kind of job, nano-dollars: training wants more cores."""
        profile = Profile.TRAIN if kind is Kind.TRAIN else Profile.RENDER
        resources = parse_resources(self.train.modal_resources)
        return self.modal.prices.usd_nanos_per_s(parse_gpu(gpu, profile, resources))

    def call_deadline_of(self, kind: Kind) -> float:
        """Our own wall clock for a Modal call of a kind, seconds. A training call lasts as long as its segment."""
        if kind is Kind.TRAIN:
            return self.train.segment_s + self.train.startup_s + TRAIN_SEGMENT_MARGIN_S
        return self.modal.call_deadline_s


def groups() -> Iterator[tuple[str, type[Group]]]:
    """Every group, by its name in `Settings`, in the order of the page."""
    for name, field in Settings.model_fields.items():
        yield name, cast("type[Group]", field.annotation)


@cache
def settings() -> Settings:
    """The process's settings, read and checked once; raises as `read_settings` does."""
    return read_settings()


def read_settings() -> Settings:
    """The settings that the environment holds now.

    Raises:
        SystemExit: values are out of their bounds; the message names each variable.
    """
    read: dict[str, Group] = {}
    wrong: list[str] = []
    for name, model in groups():
        try:
            read[name] = model()
        except ValidationError as error:
            wrong += _lines(model, error)
        except SettingsError as error:
            wrong.append(_no_json(model, error))
    if not wrong:
        try:
            return Settings.model_validate(read)
        except ValidationError as error:
            wrong = [_sentence(detail["msg"]) for detail in error.errors(include_input=False, include_url=False)]
    raise SystemExit("\n".join(["overspill: these settings are wrong:", *wrong]))


def _lines(model: type[Group], error: ValidationError) -> Iterator[str]:
    for detail in error.errors(include_input=False, include_url=False):
        if not detail["loc"]:
            yield _sentence(detail["msg"])
            continue
        first, *rest = (str(part) for part in detail["loc"])
        variable = model.variable(first) if first in model.model_fields else first
        yield f"{'_'.join([variable, *rest]).upper()}: {detail['msg']}"


def _no_json(model: type[Group], error: SettingsError) -> str:
    """A list or mapping that is no JSON; pydantic's message names the field."""
    name = next((name for name in model.model_fields if f'"{name}"' in str(error)), None)
    return f"{model.variable(name)}: expected JSON" if name else str(error)


def _sentence(message: str) -> str:
    return message.removeprefix("Value error, ")
