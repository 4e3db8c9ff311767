"""The docs: every page is reached from the index, every link leads somewhere, every command exists."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from infra.settings import groups
from infra.settings.listing import ELSEWHERE
from overspill.cli.app import app

REPOSITORY = Path(__file__).parents[3]
DOCS = REPOSITORY / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *REPOSITORY.glob("*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
WIDTH = 120


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """The files and anchors that a page points to."""
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" not in target and not target.startswith("mailto:"):
            path, _, anchor = target.partition("#")
            yield ((page.parent / path).resolve() if path else page), anchor


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as a forge makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    plain = [re.sub(r"[`*\[\]]|\(.*?\)", "", heading) for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for target, anchor in links(page):
        assert target.exists(), target
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{target.name}#{anchor}"


def test_every_page_is_reached_from_the_index() -> None:
    # given the index / when its links are followed / then no page is left
    reached, waiting = set(), [DOCS / "index.md"]
    while waiting:
        page = waiting.pop()
        if page in reached:
            continue
        reached.add(page)
        for target, _ in links(page):
            waiting += sorted(target.glob("*.md")) if target.is_dir() else [target] if target.suffix == ".md" else []
    assert set(DOCS.rglob("*.md")) - reached == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_lines_fit(page: Path) -> None:
    # given a page / when its prose is measured (neither a table's row nor a command can be broken) / then it fits
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert [line for line in prose.splitlines() if len(line) > WIDTH and line[0] != "|"] == []


def test_every_command_that_a_page_names_exists() -> None:
    # given the commands of the Makefile and of `overspill`
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    commands: dict[str, object] = getattr(typer.main.get_command(app), "commands", {})
    known = {*(("make", name) for name in targets), *(("overspill", name) for name in commands)}
    # when the pages name others / then they are found
    wrong = set()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        made = {("make", name) for name in re.findall(r"(?:`|^)make ([a-z-]+)", text, re.MULTILINE)}
        called = {("overspill", name) for name in re.findall(r"(?:`|^)overspill ([a-z-]+)", text, re.MULTILINE)}
        wrong |= {(page.name, *command) for command in (made | called) - known}
    assert wrong == set()


def test_every_variable_that_a_page_names_exists() -> None:
    # given the declared variables / when the pages name others / then they are found (the changelog tells of old ones)
    known = {model.variable(name) for _, model in groups() for name in model.model_fields}
    known |= {entry.variable for entry in ELSEWHERE}
    named = {
        (page.name, variable)
        for page in PAGES
        if page.name != "CHANGELOG.md"
        for variable in re.findall(r"\bOVERSPILL_[A-Z0-9_]*[A-Z0-9]\b", page.read_text(encoding="utf-8"))
    }
    assert {entry for entry in named if entry[1] not in known} == set()
