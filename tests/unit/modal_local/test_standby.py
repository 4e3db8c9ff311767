"""The fork server: what can be its child, what a child is, and how both end."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from modal_local.standby.keeper import Assignment, ForkedProcess, Standby, StandbyError, fits

BASE = {"PATH": os.environ["PATH"], "PYTHONPATH": "", "MODAL_IS_REMOTE": "1", "MODAL_CONFIG_PATH": os.devnull}
IMPORTED = frozenset({"modal", "asyncio"})
TO_DIE_WITH_US = ("setpriv", "--pdeathsig", "KILL")


@pytest.mark.parametrize(
    ("env", "modules", "expected"),
    [
        ({"HF_HOME": "/models", "PYTHONPATH": "/source"}, ["my_app"], True),
        ({"PYTHONOPTIMIZE": "1"}, ["my_app"], False),
        ({"LD_PRELOAD": "libjemalloc.so"}, ["my_app"], False),
        ({"TZ": "Asia/Tokyo"}, ["my_app"], False),
        ({"MODAL_LOGLEVEL": "DEBUG"}, ["my_app"], False),
        ({}, ["my_app", "asyncio"], False),  # the fork server has another one of that name imported
    ],
)
def test_only_what_an_interpreter_does_not_read_at_its_start_fits(
    env: dict[str, str], modules: list[str], expected: bool
) -> None:
    assert fits({**BASE, **env}, modules, BASE, IMPORTED) is expected


@asynccontextmanager
async def standby() -> AsyncIterator[Standby]:
    one = Standby(BASE, TO_DIE_WITH_US)
    await one.start()
    try:
        await one.imported()
        yield one
    finally:
        await one.stop()
        await one.stop()  # twice is no error


async def waiting_child(one: Standby, folder: Path) -> ForkedProcess:
    """A child that waits for its arguments, which never come, so that it can be looked at."""
    arguments = folder / "arguments"
    if not arguments.exists():
        os.mkfifo(arguments)
    output = os.open(folder / "output", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    env = {**BASE, "MODAL_CONTAINER_ARGUMENTS_PATH": str(arguments), "MODAL_TASK_ID": "ta-1", "SECRET": "x" * 9_000}
    try:
        return await one.fork(Assignment(env, folder, [], output, output))
    finally:
        os.close(output)


def read_when(path: Path, text: bytes) -> bytes:
    """Reads a file of /proc as soon as it holds a text."""
    give_up = time.monotonic() + 10
    while text not in (found := path.read_bytes()):
        assert time.monotonic() < give_up, found
        time.sleep(0.01)
    return found


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def wait_until_gone(pid: int) -> None:
    give_up = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def started_at(pid: int) -> float:
    """When a process began, by the kernel; seconds since the machine started."""
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return int(ticks) / os.sysconf("SC_CLK_TCK")


def test_a_child_is_a_process_of_its_own_from_its_assignment_on(tmp_path: Path) -> None:
    async def check() -> None:
        async with standby() as one:
            # given a fork server that has waited for a while
            await asyncio.sleep(0.05)
            before = time.clock_gettime(time.CLOCK_BOOTTIME)

            # when it forks a child, then the kernel says of it what it would say of a container of its own interpreter
            child = await waiting_child(one, tmp_path)
            proc = Path(f"/proc/{child.pid}")
            environ = await asyncio.to_thread(read_when, proc / "environ", b"MODAL_TASK_ID=ta-1\0")
            assert b"SECRET=" + b"x" * 9_000 + b"\0" in environ
            assert b"-m\0modal._container_entrypoint\0" in (proc / "cmdline").read_bytes()
            assert (proc / "cwd").readlink() == tmp_path
            assert os.getsid(child.pid) == os.getpgid(child.pid) == child.pid
            assert started_at(child.pid) >= before - 0.02  # the kernel counts in hundredths
            # and nothing of the fork server's is open in it
            assert {link.name for link in (proc / "fd").iterdir()} == {"0", "1", "2"}

            # when it is killed by its id, then that is told
            os.kill(child.pid, signal.SIGKILL)
            assert await child.wait() == child.returncode == -signal.SIGKILL

    asyncio.run(check())


def test_exit_codes_and_output_are_those_of_the_entrypoint(tmp_path: Path) -> None:
    async def check() -> None:
        async with standby() as one:
            with (tmp_path / "output").open("w") as output:
                child = await one.fork(Assignment(BASE, tmp_path, [], output.fileno(), output.fileno()))
            assert await child.wait() == 1
            assert "No path to the container arguments file provided!" in (tmp_path / "output").read_text()

    asyncio.run(check())


def test_a_mount_that_fails_ends_the_child(tmp_path: Path) -> None:
    async def check() -> None:
        async with standby() as one:
            with (tmp_path / "output").open("w") as output:
                mounts = [(str(tmp_path / "absent"), str(tmp_path), False)]
                child = await one.fork(Assignment(BASE, tmp_path, mounts, output.fileno(), output.fileno()))
            assert await child.wait() == 125
            assert "mount: " in (tmp_path / "output").read_text()

    asyncio.run(check())


def test_children_end_with_the_fork_server_and_another_takes_its_place(tmp_path: Path) -> None:
    async def check() -> None:
        async with standby() as one:
            # given a child
            child = await waiting_child(one, tmp_path)
            parent = parent_of(child.pid)

            # when the fork server dies, then the child does, and the next container gets one from another
            os.kill(parent, signal.SIGKILL)
            assert await child.wait() == -signal.SIGKILL
            await asyncio.to_thread(wait_until_gone, child.pid)
            assert await one.takes(BASE, ["my_app"])
            assert (await waiting_child(one, tmp_path)).pid != child.pid

        # and none outlives a stop
        with pytest.raises(StandbyError):
            await waiting_child(one, tmp_path)
        assert not await one.takes(BASE, ["my_app"])

    asyncio.run(check())
