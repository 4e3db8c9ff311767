"""The one table of transitions, and that Lua gets the very same one."""

import re
from pathlib import Path

from ledger.scripts import script_text
from ledger.states import PUBLIC_STATUS, TERMINAL, TRANSITIONS, State, as_lua, as_mermaid

LUA = Path(__file__).parents[3] / "ledger" / "lua"
#: How the further libraries begin.
OPENINGS = {"_settling": "How attempts and containers come to dollars", "_money": "Money: what is set aside"}
#: Functions of each that give a script away.
WORDS = {"_settling": ("settle(", "container(", "book_tail("), "_money": ("reserve(", "book(", "burn(")}


def test_every_state_has_a_row_and_a_public_word() -> None:
    assert set(TRANSITIONS) == set(State) == set(PUBLIC_STATUS)


def test_nothing_leaves_a_terminal_state_and_all_else_can_be_cancelled() -> None:
    for state in State:
        assert (TRANSITIONS[state] == frozenset()) == (state in TERMINAL)
        assert (State.CANCELLED in TRANSITIONS[state]) == (state not in TERMINAL)


def test_completed_is_reached_only_from_delivering() -> None:
    assert [state for state in State if State.COMPLETED in TRANSITIONS[state]] == [State.DELIVERING]


def test_lua_gets_the_same_table() -> None:
    rows = dict(re.findall(r"^  (\w+) = \{ (.*?) \},$", as_lua(), re.MULTILINE))
    read = {state: {part.split(" ")[0] for part in row.split(", ") if part} for state, row in rows.items()}
    assert read == {str(state): {str(after) for after in afters} for state, afters in TRANSITIONS.items()}


def _script_names() -> list[str]:
    return sorted(path.stem for path in LUA.glob("*.lua") if not path.stem.startswith("_"))


def test_every_script_opens_with_the_table_and_has_its_own_header() -> None:
    names = _script_names()
    assert "submit" in names
    for name in names:
        assert script_text(name).startswith("local LEGAL = {")
        assert (LUA / f"{name}.lua").read_text().startswith("--[["), f"{name}.lua has no header"


def test_a_script_that_moves_money_names_the_library_that_it_needs() -> None:
    for name in _script_names():
        body = (LUA / f"{name}.lua").read_text()
        for library, words in WORDS.items():
            if any(re.search(rf"(?<![\w.]){re.escape(word)}", body) for word in words):
                assert f"--[[ {OPENINGS[library]}" in script_text(name), f"{name}.lua lacks its needs: line"


def test_the_documented_diagram_is_the_table() -> None:
    page = (Path(__file__).parents[3] / "docs" / "states.md").read_text()
    assert as_mermaid() in page
