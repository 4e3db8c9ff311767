"""How a container comes to see its views at its mount paths.

Where it may be done, each container gets mounts of its own: `unshare -m` gives it a private mount table, in which each
view is bound over the mount path. Without that privilege a mount path becomes a link to one directory that all
containers share, and a mount path that cannot be made is an error that says so.
"""

import contextlib
import functools
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from modal_local.errors import FailedPreconditionError

_PROC: Final = Path("/proc")
_PROBE_TIMEOUT_S: Final = 10.0
# $0 is the shell's name, then three arguments for each mount, then "--", then the command.
_SCRIPT: Final = (
    'while [ "$1" != "--" ]; do mount --bind "$1" "$2" || exit 125;'
    ' if [ "$3" = ro ]; then mount -o remount,bind,ro "$2" || exit 125; fi; shift 3; done; shift; exec "$@"'
)


@dataclass(frozen=True, slots=True)
class BindMount:
    """One view at one place.

    Attributes:
        source: a directory of the server's.
        target: the mount path in the container.
        read_only: the container cannot write there.
    """

    source: Path
    target: Path
    read_only: bool


@dataclass(frozen=True, slots=True)
class MountPlan:
    """What a launcher does for a container's volumes.

    Attributes:
        command_prefix: to be put before the container's command; it ends in an `exec`, so the process id stays.
        mounts: what the prefix will mount; empty where directories are shared.
        native: a process with the server's rights may do without the prefix, and mount them itself.
    """

    command_prefix: tuple[str, ...] = ()
    mounts: tuple[BindMount, ...] = ()
    native: bool = True


_WITH_OUR_RIGHTS: Final = ("unshare", "--mount")


@functools.cache
def namespace_command() -> tuple[str, ...] | None:
    """The command that gives a process a mount table of its own, or None where that is not allowed."""
    if shutil.which("unshare") is None:
        return None
    for command in (_WITH_OUR_RIGHTS, ("unshare", "--map-root-user", "--mount")):
        probe = [*command, "sh", "-c", "mount --bind /proc /proc"]
        try:
            if subprocess.run(probe, capture_output=True, timeout=_PROBE_TIMEOUT_S, check=False).returncode == 0:  # noqa: S603 - our own words
                return command
        except (OSError, subprocess.TimeoutExpired):
            continue
    return None


def plan_for(mounts: Sequence[BindMount]) -> MountPlan:
    """How a container comes to its mounts.

    Raises:
        FailedPreconditionError: this machine does not allow mounts.
    """
    return MountPlan(command_prefix(mounts), tuple(mounts), not mounts or namespace_command() == _WITH_OUR_RIGHTS)


def command_prefix(mounts: Sequence[BindMount]) -> tuple[str, ...]:
    """The words before a container's command. Exit status 125: a mount failed.

    Raises:
        FailedPreconditionError: this machine does not allow mounts.
    """
    if not mounts:
        return ()
    namespace = namespace_command()
    if namespace is None:
        raise FailedPreconditionError("This machine does not allow `unshare --mount`: share the directories instead.")
    words = [*namespace, "sh", "-c", _SCRIPT, "mount-volumes"]
    for mount in mounts:
        words += [str(mount.source), str(mount.target), "ro" if mount.read_only else "rw"]
    return (*words, "--")


class MountPaths:
    """The mount paths of containers, made where they are missing and removed when no container uses them.

    Removing a directory detaches everything that is mounted on it in any mount table, so this is done only to
    directories made here, that no container of ours uses, and that no process of the machine has a mount on or below.
    """

    def __init__(self) -> None:
        self._users: dict[Path, set[str]] = {}
        self._made: set[Path] = set()

    def use(self, task_id: str, targets: Sequence[Path]) -> None:
        """Makes mount paths for a container.

        Raises:
            FailedPreconditionError: one cannot be made, or is a file.
        """
        for target in targets:
            self._users.setdefault(target, set()).add(task_id)
            self._make(target)

    def release(self, task_id: str) -> None:
        """A container has ended. An unknown one is no error."""
        for target in [one for one, users in self._users.items() if task_id in users]:
            self._users[target].discard(task_id)
            if not self._users[target]:
                del self._users[target]
        unused = {one for one in self._made if not any(target.is_relative_to(one) for target in self._users)}
        if unused:
            mounted = _mount_points()
            for directory in sorted(unused, key=lambda one: len(one.parts), reverse=True):
                if not any(point.is_relative_to(directory) for point in mounted):
                    self._made.discard(directory)
                    with contextlib.suppress(OSError):  # something has come into it
                        directory.rmdir()

    def _make(self, target: Path) -> None:
        missing = [one for one in (target, *target.parents) if not one.exists()]
        for directory in reversed(missing):
            try:
                directory.mkdir()
            except OSError as error:
                raise _cannot_make(target, error) from error
            self._made.add(directory)
        if not target.is_dir():
            raise FailedPreconditionError(f"Mount path {target}: expected a directory, and a file is there.")


def _mount_points() -> set[Path]:
    """Where something is mounted, in the mount table of any process that we may look at."""
    points: set[Path] = set()
    seen: set[str] = set()
    for process in _PROC.iterdir():
        try:
            namespace = str((process / "ns" / "mnt").readlink()) if process.name.isdigit() else ""
            if namespace and namespace not in seen:
                lines = (process / "mountinfo").read_text(errors="replace").splitlines()
                points.update(Path(_unescape(line.split(" ")[4])) for line in lines)
                seen.add(namespace)
        except OSError:
            continue  # ended meanwhile, or somebody else's
    return points


def _unescape(field: str) -> str:
    """The kernel writes blanks and the like as three octal digits (proc_pid_mountinfo(5))."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), field)


def link_target(target: Path, directory: Path) -> None:
    """Makes a mount path a link to a shared directory.

    Raises:
        FailedPreconditionError: something else is there, or the link cannot be made.
    """
    if target.is_symlink() and target.readlink() == directory:
        return
    if target.exists() or target.is_symlink():
        raise FailedPreconditionError(
            f"Mount path {target}: something is there, and this machine does not allow mounts over it."
            " Run modal_local as root, or mount the volume where nothing is."
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(directory)
    except OSError as error:
        raise _cannot_make(target, error) from error


def _cannot_make(target: Path, error: OSError) -> FailedPreconditionError:
    return FailedPreconditionError(
        f"Mount path {target} cannot be made: {error.strerror}. Run modal_local as root, or mount the volume elsewhere."
    )
