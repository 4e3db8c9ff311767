"""What a check says."""

from dataclasses import dataclass
from enum import StrEnum


class Health(StrEnum):
    """How it stands."""

    OK = "ok"
    #: Worth knowing; nothing that is needed is missing.
    NOTE = "note"
    #: Something needed is wrong.
    WRONG = "WRONG"


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's."""

    name: str
    health: Health
    detail: str
    #: What to do about it; empty if nothing.
    remedy: str = ""


def ok(name: str, detail: str) -> Finding:
    """All is well."""
    return Finding(name, Health.OK, detail)


def note(name: str, detail: str, remedy: str = "") -> Finding:
    """Worth knowing."""
    return Finding(name, Health.NOTE, detail, remedy)


def wrong(name: str, detail: str, remedy: str) -> Finding:
    """Something needed is wrong."""
    return Finding(name, Health.WRONG, detail, remedy)
