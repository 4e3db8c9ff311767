"""Two ways to show pictures: a table that is drawn anew, and lines for a file or a pipe."""

from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from overspill.cli.demo.picture import Picture, changes, table


class Reporter(AbstractContextManager["Reporter"], Protocol):
    """Shows one picture after the other."""

    def show(self, picture: Picture) -> None:
        """Show how it stands now."""


class LiveTable:
    """For a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, picture: Picture) -> None:
        """Draw the table anew."""
        self._live.update(table(picture, width=self._console.width), refresh=True)


class PlainLines:
    """For everything else."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._before: Picture | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to close."""

    def show(self, picture: Picture) -> None:
        """Print what has changed."""
        for line in changes(self._before, picture):
            self._console.print(Text(line), soft_wrap=True)
        self._before = picture


def reporter_for(console: Console) -> Reporter:
    """The table on a terminal, lines elsewhere."""
    return LiveTable(console) if console.is_terminal else PlainLines(console)
