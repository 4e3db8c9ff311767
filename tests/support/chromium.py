"""A real browser, headless: what a page holds once its own scripts have run."""

import shutil
import subprocess
from pathlib import Path

import pytest

#: How long the page's scripts may run, in the browser's own time, milliseconds.
_SCRIPTS_MS = 5_000


def page_after_scripts(address: str, *, profile: Path, timeout_s: float = 60) -> str:
    """The HTML of a page as its scripts have left it; skips the test where no Chromium is installed.

    Args:
        address: may carry `user:password@`.
        profile: an empty folder, for this browser alone.
        timeout_s: longest time for all of it, seconds.
    """
    binary = shutil.which("chromium")
    if binary is None:
        pytest.skip("chromium is not installed: run `make setup-tests`")
    ended = subprocess.run(
        [
            binary, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--disable-dev-shm-usage", f"--user-data-dir={profile}", f"--virtual-time-budget={_SCRIPTS_MS}",
            "--dump-dom", address,
        ],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-2000:]
    return ended.stdout
