"""Everything that may go wrong in a render, as one small tree. Each error carries its data and says what to do.

The errors cross process borders (a Modal envelope, a pickle), so each one can be pickled, and gives its data as JSON
types by `details()` beside a stable `code`.
"""

from __future__ import annotations

from typing import ClassVar, Literal

_MAX_SHOWN_CHARS = 80


class RenderError(Exception):
    """Root of the tree. `code` is stable and meant for machines; the text is for people."""

    code: ClassVar[str] = "render_error"

    def details(self) -> dict[str, object]:
        """The error's data as JSON types."""
        return {}

    def __str__(self) -> str:
        return self.sentence()

    def sentence(self) -> str:
        """What was expected, what came, what to do."""
        return "The render failed for a reason that has no name yet; see the cause."


class InvalidRenderRequest(RenderError):
    """A field of the request is missing, unknown, of the wrong type or out of bounds. Trying again cannot help."""

    code = "invalid_render_request"

    def __init__(self, field: str, got: object, expected: str) -> None:
        # A prompt of 32000 characters does not belong into a message; a repr is always JSON.
        shown = repr(got)
        self.field = field
        self.got = shown if len(shown) <= _MAX_SHOWN_CHARS else f"{shown[:_MAX_SHOWN_CHARS]}..."
        self.expected = expected
        super().__init__(field, got, expected)

    def details(self) -> dict[str, object]:
        """Field, what came (shortened) and what was expected."""
        return {"field": self.field, "got": self.got, "expected": self.expected}

    def sentence(self) -> str:
        """What was expected, what came, what to do."""
        return f"{self.field}: expected {self.expected}, got {self.got}. Correct the field and submit again."


class UnknownEngine(RenderError):
    """No engine has this name. Trying again cannot help on this version."""

    code = "unknown_engine"

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        self.name = name
        self.known = known
        super().__init__(name, known)

    def details(self) -> dict[str, object]:
        """The name asked for and the names known."""
        return {"name": self.name[:_MAX_SHOWN_CHARS], "known": list(self.known)}

    def sentence(self) -> str:
        """What was expected, what came, what to do."""
        asked = self.name[:_MAX_SHOWN_CHARS]
        return (
            f"engine: expected one of {', '.join(self.known)}, got {asked!r}. Ask for a known one or update the worker."
        )


class RenderCancelled(RenderError):
    """The cancel check asked for a stop. Not a failure: nothing is left behind."""

    code = "render_cancelled"

    def __init__(self, frames_done: int, frames_total: int) -> None:
        self.frames_done = frames_done
        self.frames_total = frames_total
        super().__init__(frames_done, frames_total)

    def details(self) -> dict[str, object]:
        """How far it had come."""
        return {"frames_done": self.frames_done, "frames_total": self.frames_total}

    def sentence(self) -> str:
        """What happened."""
        return f"The render was cancelled after {self.frames_done} of {self.frames_total} frames, as asked."


class RenderOutOfMemory(RenderError):
    """Memory ran out. A next attempt needs a larger GPU class (`cuda`) or a host with more memory (`host`)."""

    code = "render_out_of_memory"

    def __init__(self, where: Literal["cuda", "host"]) -> None:
        self.where = where
        super().__init__(where)

    def details(self) -> dict[str, object]:
        """Which memory it was."""
        return {"where": self.where}

    def sentence(self) -> str:
        """What happened, what to do."""
        memory, remedy = {
            "cuda": ("GPU memory", "a GPU class with more memory"),
            "host": ("The host's memory", "a host with more memory, or a smaller video"),
        }[self.where]
        return f"{memory} ran out during the render. Try again on {remedy}."


class EncodingFailed(RenderError):
    """The codec or the muxer failed; `cause` is its own message. Trying again may help (a full disk, for example)."""

    code = "encoding_failed"

    def __init__(self, cause: str) -> None:
        self.cause = cause
        super().__init__(cause)

    def details(self) -> dict[str, object]:
        """The codec's own message."""
        return {"cause": self.cause}

    def sentence(self) -> str:
        """What happened, what to do."""
        return (
            f"Encoding the video failed: {self.cause}. Check the disk space and the codec library (libx264), try again."
        )
