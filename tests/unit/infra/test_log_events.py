"""docs/logs.md and the code name the same events, and every transition has its line."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from ledger.states import TRANSITIONS

REPOSITORY = Path(__file__).parents[3]
PAGE = (REPOSITORY / "docs" / "logs.md").read_text(encoding="utf-8")
#: The rooms that run in production. (modal_local is a tool of development, and logs for itself.)
ROOMS = ("api", "infra", "ledger", "monitoring", "overspill", "tasks", "workers")
EVENT = re.compile(r"[a-z_]+\.[a-z_]+")
LEVELS = {"debug", "info", "warning", "error", "exception", "critical", "log"}
#: Names that one method of a logger goes by.
METHODS = {"answered", "say"}


def logged() -> Iterator[tuple[str, str]]:
    """Every event that the code logs, with the file."""
    for room in ROOMS:
        for path in sorted((REPOSITORY / room).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    for event in _events(node):
                        yield event, str(path.relative_to(REPOSITORY))


def _events(call: ast.Call) -> list[str]:
    """The events that a call logs; a line without an event's name is told as such."""
    texts = [
        node.value
        for argument in call.args
        for node in ast.walk(argument)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and EVENT.fullmatch(node.value)
    ]
    function = call.func
    if isinstance(function, ast.Attribute) and function.attr in LEVELS and getattr(function.value, "id", "") == "log":
        return texts or [f"line {call.lineno}: no event's name"]
    return texts if isinstance(function, ast.Name) and function.id in METHODS else []


def tables() -> Iterator[list[str]]:
    """The rows of every table of the page, as cells."""
    for line in PAGE.splitlines():
        if line.startswith("| ") and not line.startswith("| ---"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def described() -> set[str]:
    """The events that have a row: those in the first cell."""
    return {event for row in tables() for event in re.findall(r"`([a-z_]+\.[a-z_]+)`", row[0])}


def test_every_event_in_the_code_has_a_row() -> None:
    # given what the code logs / when it is looked up / then each is in docs/logs.md
    missing = {event: path for event, path in logged() if event not in described()}
    assert missing == {}, "add these to docs/logs.md"


def test_every_row_is_of_an_event_in_the_code() -> None:
    # given the page / when its rows are looked for in the code / then none is of the past
    assert described() - {event for event, _ in logged()} == set(), "remove these from docs/logs.md"


def test_every_transition_has_its_line() -> None:
    # given the one table of legal transitions / when each is looked up / then its line is named, and exists
    rows = [row for row in tables() if len(row) == 3]
    told = {(row[0], row[1]): re.findall(r"`([a-z_]+\.[a-z_]+)`", row[2]) for row in rows}
    events = {event for event, _ in logged()}
    for before, afters in TRANSITIONS.items():
        for after in afters:
            lines = told.get((str(before), str(after))) or told.get(("any", str(after)))
            assert lines, f"{before} -> {after}"
            assert set(lines) <= events, f"{before} -> {after}"
