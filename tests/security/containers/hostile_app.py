"""An app that stands where the renderer is, and does what its prompt says: hostile, by one way after the other."""

import os
import time
from typing import Any

import modal

ANNOUNCEMENTS_DICT, HINTS_QUEUE, PARTITIONS = "overspill-announcements", "overspill-hints", 8

app = modal.App("overspill-hostile", include_source=False)
image = modal.Image.debian_slim().add_local_file(__file__, "/root/hostile_app.py")


class Evil:
    """Makes a directory where it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


class EvilError(Exception):
    """The same, raised."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


class Exits:
    """Ends the process that unpickles it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (3,)


@app.cls(image=image, scaledown_window=20, max_containers=2)
class Renderer:
    """In the renderer's place."""

    @modal.method()
    def render(self, request: dict[str, Any], attempt_of: tuple[str, int, str], *_: Any) -> Any:  # noqa: C901 - a list
        """Does what the prompt says, with the path that it names."""
        way, path = str(request["prompt"]).split()
        job_id, attempt, _key = attempt_of
        match way:
            case "returned":
                return Evil(path)
            case "nested":
                return {"version": 1, "value": [{"deep": (Evil(path),)}]}
            case "exits":
                return Exits()
            case "raised":
                raise EvilError(path)
            case "attribute":
                error = ValueError("harmless")
                error.note = Evil(path)  # type: ignore[attr-defined]  # on purpose
                raise error
            case "cause":
                raise ValueError(Evil(path))
            case "system_exit":
                raise SystemExit(Evil(path))
            case "stop_iteration":
                raise StopIteration(7)
            case "queue":
                queue = modal.Queue.from_name(HINTS_QUEUE, create_if_missing=True)
                for number in range(PARTITIONS):
                    queue.put(Evil(path), partition=f"p{number}")
            case "dict_value":
                book = modal.Dict.from_name(ANNOUNCEMENTS_DICT, create_if_missing=True)
                book[f"{job_id}:{attempt}"] = Evil(path)
                book["render_of_nobody:1"] = Evil(path)
            case "dict_key":
                book = modal.Dict.from_name(ANNOUNCEMENTS_DICT, create_if_missing=True)
                book[Evil(path)] = 1
        time.sleep(0.3)
        return "no envelope"
