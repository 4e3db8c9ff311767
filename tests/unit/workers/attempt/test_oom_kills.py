"""The kernel's own count of processes that it killed for memory."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from workers.attempt.oom_kills import oom_kills

_MEMORY_V1 = Path("/sys/fs/cgroup/memory")
_LIMIT_BYTES = 32 * 2**20


def _tree(folder: Path, groups: str, **files: str) -> dict[str, Path]:
    """What the kernel would show: the groups of the process, and files by their path with `__` for `/`."""
    (folder / "cgroup").write_text(groups)
    for name, text in files.items():
        path = folder / "mounted" / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return {"groups": folder / "cgroup", "mounted": folder / "mounted"}


@pytest.mark.parametrize(
    ("groups", "files", "kills"),
    [
        ("0::/a/b\n", {"a__b__memory_dot_events": "low 0\noom 3\noom_kill 2\noom_group_kill 0\n"}, 2),
        # a container sees its own group as the root
        ("0::/docker/1\n", {"memory_dot_events": "oom_kill 1\n"}, 1),
        ("4:memory:/x\n3:cpu:/\n0::/\n", {"memory__x__memory_dot_oom_control": "under_oom 0\noom_kill 5\n"}, 5),
        # a kernel that does not count, a process in no group of memory, and no groups at all
        ("0::/a\n", {"a__memory_dot_events": "low 0\n"}, None),
        ("3:cpu:/\n", {}, None),
        ("", {}, None),
    ],
)
def test_each_layout_of_control_groups_is_read(
    tmp_path: Path, groups: str, files: dict[str, str], kills: int | None
) -> None:
    assert oom_kills(**_tree(tmp_path, groups, **files)) == kills


def test_a_system_without_control_groups_says_nothing(tmp_path: Path) -> None:
    assert oom_kills(groups=tmp_path / "none", mounted=tmp_path) is None


@contextlib.contextmanager
def _small_group() -> Iterator[str]:
    """A real control group with little memory; skips where this user may not make one."""
    own = next((line.split(":", 2)[2] for line in Path("/proc/self/cgroup").read_text().splitlines()
                if ":memory:" in line), "")  # fmt: skip
    name = f"{own.strip('/')}/overspill-test-{os.getpid()}"
    group = _MEMORY_V1 / name
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"a memory control group cannot be made here: {error}")
    try:
        (group / "memory.limit_in_bytes").write_text(str(_LIMIT_BYTES))
        yield name
    finally:
        group.rmdir()


def test_a_process_that_the_kernel_kills_for_memory_is_counted(tmp_path: Path) -> None:
    # given a group of processes that may have little memory
    with _small_group() as name:
        (tmp_path / "cgroup").write_text(f"4:memory:/{name}\n")
        assert oom_kills(groups=tmp_path / "cgroup") == 0
        # when one of them takes more
        join = f"open('/sys/fs/cgroup/memory/{name}/cgroup.procs', 'w').write('0')"
        greedy = f"{join}\nkept = [bytearray(b'x') * 2**20 for _ in range({4 * _LIMIT_BYTES // 2**20})]"
        ended = subprocess.run([sys.executable, "-c", greedy], check=False, timeout=60)
        # then the kernel has killed it, and has counted that
        assert ended.returncode == -signal.SIGKILL
        assert oom_kills(groups=tmp_path / "cgroup") == 1
