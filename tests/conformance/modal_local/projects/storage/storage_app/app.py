"""Containers that write to and read from volumes, each doing what it is told step by step."""

import os
from pathlib import Path

import modal

NAME = os.environ.get("STORAGE_APP_NAME", "storage")
image = modal.Image.debian_slim().env({"STORAGE_APP_NAME": NAME}).add_local_python_source("storage_app")
app = modal.App(NAME, image=image, include_source=False)
one = modal.Volume.from_name(f"{NAME}-one", create_if_missing=True, version=1)
two = modal.Volume.from_name(f"{NAME}-two", create_if_missing=True, version=2)
secret = modal.Secret.from_name(f"{NAME}-secret")
MOUNTS = {
    "/mnt/storage-app/one": one,
    "/mnt/storage-app/two": two,
}
VOLUMES = {"one": one, "two": two}
ROOT = Path("/mnt/storage-app")


def work(steps: list[list[str]]) -> list[str]:
    """Runs steps such as `["write", "one/f", "text"]` and returns what each gave, an exception as its text."""
    answers = []
    for step in steps:
        try:
            answers.append(take(*step))
        except Exception as error:  # noqa: BLE001 - the test wants to see whatever it is
            answers.append(f"{type(error).__name__}: {error}")
    return answers


held = []


def take(action: str, where: str, text: str = "") -> str:
    path = ROOT / where
    match action:
        case "write":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        case "read":
            return path.read_text()
        case "remove":
            path.unlink()
        case "list":
            return " ".join(sorted(one.name for one in path.iterdir()))
        case "variable":
            return os.environ.get(where, "absent")
        case "commit":
            VOLUMES[where].commit()
        case "reload":
            VOLUMES[where].reload()
        case _:
            hold(action, path)
    return "ok"


def hold(action: str, path: Path) -> None:
    if action == "open":
        held.append(path.open())
    else:
        while held:
            held.pop().close()


@app.cls(volumes=MOUNTS, secrets=[secret], scaledown_window=30, max_containers=1, timeout=60)
class Writer:
    """One container that lives on between calls. `who` makes another pool, so another container."""

    who: str = modal.parameter(default="")

    @modal.method()
    def do(self, steps: list[list[str]]) -> list[str]:
        return work(steps)


@app.function(volumes={"/mnt/storage-app/two": two.with_mount_options(read_only=True)}, scaledown_window=2)
def reader(steps: list[list[str]]) -> list[str]:
    return work(steps)


@app.function(volumes={"/mnt/storage-app/one": one}, scaledown_window=2)
def leave(steps: list[list[str]]) -> list[str]:
    """Its container ends soon after, which commits what it has written."""
    answers = work(steps)
    modal.experimental.stop_fetching_inputs()
    return answers


@app.function(volumes={"/mnt/storage-app/part": two.with_mount_options(sub_path="/part")}, scaledown_window=2)
def partial(steps: list[list[str]]) -> list[str]:
    answers = work(steps)
    two.commit()
    return answers
