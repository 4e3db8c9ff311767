"""What the stack's processes inherit from the person who starts it, and what they must not."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

#: A person's own accounts have no business in a local stack.
FOREIGN = ("MODAL_", "AWS_ACCESS", "AWS_SECRET", "AWS_SESSION", "AWS_PROFILE", "AWS_ENDPOINT", "FLOWER_")
#: Every process of a stack carries its folder under this name: so it can be found, and told from another stack's.
MARK = "OVERSPILL_STATE"


def inherited(folder: Path, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Our environment without what is foreign, with our own programs first on the PATH, marked with the folder.

    Temporary files go into the folder too: what a killed process leaves behind is found and removed there.
    """
    kept = {name: value for name, value in environment.items() if not name.startswith(FOREIGN)}
    temporary = folder / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    programs = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)])
    return {**kept, "PATH": programs, "TMPDIR": str(temporary), MARK: str(folder)}
