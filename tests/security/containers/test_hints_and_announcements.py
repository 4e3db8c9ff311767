"""What stands in the queue of hints and in the book of announcements: read strictly, an odd one is none."""

import json
from typing import Any

import pytest

from modal_apps.announce import Announcement, ContainerStart, parse_entry
from modal_apps.hints import CallHint, parse_hint

LONE = chr(0xD800)
GOOD = ["video_1", 1, "fc-1", "done", 100, 7, 9]
ENTRY = {"call_id": "fc-1", "announced_at": 1.0, "containers": [("ta-1", 1.0)]}


def _hint(place: int, value: object) -> str:
    return json.dumps([*GOOD[:place], value, *GOOD[place + 1 :]])


def test_a_good_one_is_read() -> None:
    assert parse_hint(json.dumps(GOOD)) == CallHint("video_1", 1, "fc-1", "done", 100, 7, 9)
    assert parse_entry("video_1:1", ENTRY) == Announcement("video_1", 1, "fc-1", 1.0, (ContainerStart("ta-1", 1.0),))


@pytest.mark.parametrize(
    "item",
    [
        "[" * 100_000, "[" * 900, '{"a":' * 150, "1" * 10_000, "[NaN]", "", "null", json.dumps(GOOD).encode(), 7, None,
        _hint(0, LONE), _hint(0, ""), _hint(0, "video 1"), _hint(0, "v" * 500), _hint(0, "\u0661"), _hint(0, None),
        _hint(1, True), _hint(1, 1.0), _hint(1, -1), _hint(1, 10**15), _hint(1, "1"),
        _hint(2, LONE), _hint(2, ["fc-1"]), _hint(2, "fc-1\n"), _hint(3, "ended"), _hint(3, {}), _hint(3, LONE),
        _hint(4, 101), _hint(4, True), _hint(4, 10**400), _hint(4, float("nan")), _hint(4, 50.5),
        _hint(5, 10**400), _hint(5, float("inf")), _hint(5, False), _hint(6, 10**400), _hint(6, -1), _hint(6, "9"),
        _hint(6, float("nan")),
    ],
)  # fmt: skip
def test_an_odd_hint_is_none(item: object) -> None:
    assert parse_hint(item) is None


@pytest.mark.parametrize(
    ("key", "entry"),
    [
        (b"video_1:1", ENTRY), (("video_1", 1), ENTRY), ("video_1", ENTRY), ("video_1:", ENTRY), (":1", ENTRY),
        ("video_1:\u00b2", ENTRY), ("video_1:\u0661", ENTRY), ("video_1:-1", ENTRY), ("video_1:" + "9" * 5_000, ENTRY),
        ("v" * 10_000 + ":1", ENTRY), (LONE + ":1", ENTRY), ("video_1\n:1", ENTRY),
        ("video_1:1", None), ("video_1:1", []), ("video_1:1", {}), ("video_1:1", {**ENTRY, 1: 2}),
        ("video_1:1", {**ENTRY, "call_id": LONE}), ("video_1:1", {**ENTRY, "call_id": b"fc-1"}),
        ("video_1:1", {**ENTRY, "call_id": ""}), ("video_1:1", {**ENTRY, "announced_at": float("nan")}),
        ("video_1:1", {**ENTRY, "announced_at": 10**400}), ("video_1:1", {**ENTRY, "announced_at": True}),
        ("video_1:1", {**ENTRY, "announced_at": "1"}), ("video_1:1", {**ENTRY, "containers": "ab"}),
        ("video_1:1", {**ENTRY, "containers": [("ta-1", 1.0)] * 1_000}), ("video_1:1", {**ENTRY, "containers": [1]}),
        ("video_1:1", {**ENTRY, "containers": [("ta-1", float("inf"))]}),
        ("video_1:1", {**ENTRY, "containers": [(LONE, 1.0)]}), ("video_1:1", {**ENTRY, "containers": {"ta-1": 1.0}}),
    ],
)  # fmt: skip
def test_an_odd_announcement_is_none(key: Any, entry: Any) -> None:
    assert parse_entry(key, entry) is None
