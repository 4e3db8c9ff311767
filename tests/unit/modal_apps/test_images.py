"""What a container runs is what the tests ran: the image's pins are the lock's."""

import re
from pathlib import Path

from modal_apps.images import RENDER_PACKAGES

LOCK = (Path(__file__).parents[3] / "requirements.lock").read_text()


def test_the_images_pins_are_in_the_lock() -> None:
    locked = set(re.findall(r"^(\S+==\S+?)(?: |$)", LOCK, re.MULTILINE))
    assert set(RENDER_PACKAGES) <= locked


def test_the_lock_has_hashes_and_names_no_registry() -> None:
    assert LOCK.count("==") <= LOCK.count("--hash=sha256:")
    assert "://" not in LOCK
    assert "index-url" not in LOCK
