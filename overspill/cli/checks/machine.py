"""This machine: its Python, its programs, its codecs, the settings of this environment."""

import platform
import shutil
import sys

from infra.settings import Settings
from overspill.cli.checks.finding import Finding, note, ok, wrong
from overspill.dev.errors import MissingProgram
from overspill.dev.redis_service import INSTALL_REDIS
from overspill.dev.s3_service import find_weed

PYTHON_AT_LEAST = (3, 11)
ENCODER = "libx264"


def python(version: tuple[int, int] = sys.version_info[:2]) -> Finding:
    """Our code uses what 3.11 brought."""
    if version < PYTHON_AT_LEAST:
        return wrong("python", f"expected 3.11 or newer, got {'.'.join(map(str, version))}", "install a newer Python")
    return ok("python", platform.python_version())


def redis_server() -> Finding:
    """Needed by `up`, `demo` and the tests; production has its Redis elsewhere."""
    found = shutil.which("redis-server")
    if found is None:
        return note("redis-server", "not installed, so `overspill up` and `demo` cannot run here", INSTALL_REDIS)
    return ok("redis-server", found)


def s3_server() -> Finding:
    """The same, for S3."""
    try:
        return ok("s3-server", str(find_weed()))
    except MissingProgram as error:
        return note("s3-server", "not installed, so `overspill up` and `demo` cannot run here", error.remedy)


def codecs() -> Finding:
    """The procedural engine writes H.264 through PyAV."""
    try:
        import av  # noqa: PLC0415 - its absence is what is looked for
    except ImportError as error:
        return wrong("codecs", f"PyAV cannot be imported: {error}", "run `pip install av` or `make setup`")
    try:
        av.codec.Codec(ENCODER, "w")
    except ValueError:
        return wrong("codecs", f"PyAV {av.__version__} has no {ENCODER}", "install PyAV's wheel instead of a build")
    return ok("codecs", f"PyAV {av.__version__} with {ENCODER}")


def api_keys(settings: Settings) -> Finding:
    """A key is required, and at least one is configured."""
    if settings.api.auth == "off":
        return note("api-keys", "OVERSPILL_API_AUTH=off: everyone who reaches the port may use it")
    tenants = settings.api.tenants_by_key.values()
    if not tenants:
        return wrong("api-keys", "a key is required and none is configured", "set OVERSPILL_API_KEYS=tenant=key,...")
    return ok("api-keys", f"{len(tenants)} for {', '.join(sorted(set(tenants)))}")
