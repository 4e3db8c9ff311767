"""Which RPCs the installed SDK can call, and which are served: a new one that nobody has thought of fails by name."""

import re
from pathlib import Path

import modal

from modal_local.left_out import LEFT_OUT, refusal
from modal_local.limits import LEFT_OUT_OF_FUNCTIONS
from modal_local.rpc import method_names
from modal_local.rpc_table import DIFFERS, SINCE, rpc_table, served_rpcs, with_table

PAGE = Path(__file__).parents[3] / "docs" / "modal_local.md"


def callable_rpcs() -> set[str]:
    """The RPCs that the installed SDK's own source names."""
    package = Path(modal.__file__).parent
    names: set[str] = set()
    for source in package.rglob("*.py"):
        names |= set(re.findall(r"stub\.([A-Z]\w+)", source.read_text()))
    return names & set(method_names())


def test_every_rpc_that_the_sdk_can_call_is_served_or_left_out_by_name() -> None:
    served = served_rpcs()
    unknown = {
        name
        for name in callable_rpcs() - served
        if not any(re.fullmatch(pattern, name) for pattern in LEFT_OUT.values())
    }
    assert unknown == set(), f"modal {modal.__version__} can call these, and nobody serves them: {sorted(unknown)}"


def test_nothing_that_is_left_out_is_served_after_all() -> None:
    both = {name for name in served_rpcs() if any(re.fullmatch(pattern, name) for pattern in LEFT_OUT.values())}
    assert both == set(), "take these out of the list of what is left out"


def test_the_sdk_is_the_one_that_this_was_written_for() -> None:
    assert modal.__version__ == "1.6.4", "run the conformance tests with the new SDK, then change this line"


def test_who_calls_what_is_left_out_is_told_so_by_subject() -> None:
    told = refusal("SandboxCreate")
    assert told.startswith("modal_local does not serve SandboxCreate: sandboxes and what runs in them are left out")
    assert refusal("NeverHeardOf") == "modal_local does not serve NeverHeardOf."


def test_the_page_lists_what_is_left_out() -> None:
    page = " ".join(PAGE.read_text().split())
    listed = page.partition("## Left out")[2].partition("## ")[0]
    missing = [name for name in (*LEFT_OUT, *(one.name for one in LEFT_OUT_OF_FUNCTIONS)) if name not in listed]
    assert missing == []


def test_the_pages_table_is_what_is_served() -> None:
    served = served_rpcs()
    text = PAGE.read_text()
    assert with_table(text, rpc_table(served)) == text, "run python -m modal_local.rpc_table"
    assert set(DIFFERS) | set(SINCE) <= served
