"""Runs the real modal command without importing the SDK anew each time, which is two thirds of a command's time.

A process that has imported the command forks a child for each run: `python -m modal` with the arguments, the working
directory and the environment that are asked for, its output in files, its exit status as ever.
"""

import atexit
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_LOOKS = {"NO_COLOR": "1", "COLUMNS": "200"}
_TIMEOUT_S = 100.0
# What a command imports when it is at work, beside `modal` itself.
_IMPORTED = (
    *("modal.cli.entry_point", "modal.cli.app", "modal.cli.run", "modal.runner"),
    *("modal._output.rich", "modal._utils.proxy_support"),
)


class _Forker:
    """The process that forks, from the first run until this program ends."""

    def __init__(self) -> None:
        plain = {name: value for name, value in os.environ.items() if not name.startswith("MODAL_")}
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**plain, **_LOOKS, "MODAL_CONFIG_PATH": "/nonexistent/modal.toml"},
        )
        self._one_at_a_time = threading.Lock()
        atexit.register(self.close)

    def run(self, words: tuple[str, ...], cwd: Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """Runs one command to its end."""
        with self._one_at_a_time, tempfile.TemporaryDirectory() as folder:
            out, err = Path(folder) / "out", Path(folder) / "err"
            self._tell({"words": words, "cwd": str(cwd), "env": {**env, **_LOOKS}, "out": str(out), "err": str(err)})
            pid = self._hear()
            watchdog = threading.Timer(_TIMEOUT_S, os.kill, (pid, signal.SIGKILL))
            watchdog.start()
            code = self._hear()
            watchdog.cancel()
            return subprocess.CompletedProcess(
                ["modal", *words], code, out.read_text(errors="replace"), err.read_text(errors="replace")
            )

    def _tell(self, request: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()

    def _hear(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """Ends it."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.wait()


_forkers: list[_Forker] = []


def run_modal(*words: str, cwd: Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Runs `modal WORDS` in a directory, with a whole environment; see the module."""
    if not _forkers:
        _forkers.append(_Forker())
    return _forkers[0].run(words, cwd, env)


def _serve() -> None:
    """The forking process: a request a line in, the child's pid and its exit status out."""
    for name in _IMPORTED:
        __import__(name)
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become(request)
            return
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _become(request: dict[str, Any]) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    for number, path in ((1, request["out"]), (2, request["err"])):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.path[0] = request["cwd"]  # as `python -m` has it
    sys.argv[1:] = request["words"]
    code: object = 0
    try:
        runpy.run_module("modal", run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        code = ended.code
    except BaseException:  # noqa: BLE001 - as the interpreter does it
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    if isinstance(code, str):
        sys.stderr.write(code + "\n")
    sys.stdout.flush()
    sys.stderr.flush()
    # To take the interpreter down in good order would copy all that it shares with its parent: half a second.
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    _serve()
