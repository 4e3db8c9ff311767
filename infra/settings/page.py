"""docs/settings.md, written from the models: `python -m infra.settings.page` writes it anew."""

import types
import typing
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from infra.settings import groups
from infra.settings.listing import ELSEWHERE, as_text

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"

#: Attribute of a bound in pydantic's metadata, its sign, its unit.
_BOUNDS = (
    ("ge", "≥", ""),
    ("gt", ">", ""),
    ("le", "≤", ""),
    ("lt", "<", ""),
    ("min_length", "≥", " characters"),
    ("max_length", "≤", " characters"),
)


def page() -> str:
    """The page."""
    lines = [
        "# Settings",
        "",
        "Every setting is an environment variable. `overspill settings` prints the values in force, where each comes",
        "from, and which differ from the default. A process checks all of them at its start and names every wrong one.",
        "Lists and mappings are written as JSON. This page is written from the code: `make docs`.",
        "",
    ]
    for group, model in groups():
        lines += [f"## {group}", "", (model.__doc__ or "").strip().splitlines()[0], ""]
        lines += ["| variable | default | bounds | meaning |", "| --- | --- | --- | --- |"]
        for name, info in model.model_fields.items():
            default = as_text(_shown_default(info))
            lines.append(
                f"| `{model.variable(name)}` | {f'`{default}`' if default else ''} | {_bounds(info)} "
                f"| {_cell(info.description or '')} |"
            )
        lines.append("")
    lines += [
        "## Read elsewhere",
        "",
        "No process of the control plane reads these; the reader is named.",
        "",
        "| variable | default | read by | meaning |",
        "| --- | --- | --- | --- |",
        *(
            f"| `{entry.variable}` | {f'`{entry.default}`' if entry.default else ''} | {entry.read_by} "
            f"| {entry.description} |"
            for entry in ELSEWHERE
        ),
    ]
    return "\n".join(lines) + "\n"


def _shown_default(info: FieldInfo) -> Any:
    value = info.get_default(call_default_factory=True, validated_data={})
    # The folder of temporary files is another on each machine.
    return f"(temporary folder)/{value.name}" if isinstance(value, Path) else value


def _bounds(info: FieldInfo) -> str:
    choices = [
        str(choice)
        for part in _parts(info.annotation)
        if typing.get_origin(part) is typing.Literal
        for choice in typing.get_args(part)
    ]
    if choices:
        return ", ".join(f"`{choice}`" for choice in choices)
    words = [
        f"{sign} {as_text(limit)}{unit}"
        for bound in info.metadata
        for attribute, sign, unit in _BOUNDS
        if (limit := getattr(bound, attribute, None)) is not None
    ]
    return ", ".join(words)


def _parts(annotation: Any) -> tuple[Any, ...]:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
