"""Keys: one tenant each, long enough, and read as `openssl rand -base64 32` prints them."""

import subprocess

import pytest
from pydantic import ValidationError

from infra.api_keys import parse_api_keys
from tests.integration.api.test_process import COMMAND, PADDED_KEY, environment
from tests.support.settings import settings_of

LONG, OTHER = "0123456789abcdef", "fedcba9876543210"


@pytest.mark.parametrize(
    ("text", "tenants"),
    [
        (LONG, {LONG: "default"}),
        (f"acme={PADDED_KEY}", {PADDED_KEY: "acme"}),
        (f"acme={LONG}==,{OTHER}", {f"{LONG}==": "acme", OTHER: "default"}),
        (f"acme=={LONG}", {f"={LONG}": "acme"}),
        (f" acme = {LONG} , acme={OTHER},", {LONG: "acme", OTHER: "acme"}),
        (f"acme={LONG},acme={LONG}", {LONG: "acme"}),
        ("", {}),
    ],
)
def test_the_tenant_is_what_stands_before_the_first_equals_sign(text: str, tenants: dict[str, str]) -> None:
    assert parse_api_keys(text) == tenants


WRONG = {
    "one key for two tenants": (f"a={LONG},b={LONG}", "entry 2 gives tenant 'b' the key of another"),
    "a bare key that is another's": (f"{LONG},b={LONG}", "entry 2 gives tenant 'b'"),
    "another's key, then bare": (f"b={LONG},{OTHER},{LONG}", "entry 3 gives tenant 'default'"),
    "one letter": ("a=K", "a key of 1 characters, expected 16"),
    "one too short": (f"a={LONG[1:]}", "a key of 15 characters, expected 16"),
    "short and bare": (f"{OTHER},{LONG[1:]}", "entry 2 has a key of 15 characters"),
    "empty": ("a=", "a key of 0 characters"),
    "a padded key without a tenant": (f"{LONG}{OTHER}=", "written `default=key`"),
    "no tenant": (f"={LONG}", "names no tenant"),
    "short only without its spaces": (f"a={' ' * 20}K", "a key of 1 characters"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_told_apart_or_is_too_short_is_refused_with_the_reason_and_without_the_key(name: str) -> None:
    text, reason = WRONG[name]
    with pytest.raises(ValidationError, match=reason) as refused:
        settings_of({"api_keys": text})
    assert LONG not in str(refused.value)


def test_the_api_does_not_start_with_one_key_for_two_tenants() -> None:
    variables = environment(OVERSPILL_API_KEYS=f"a={LONG},b={LONG}")
    done = subprocess.run(COMMAND, env=variables, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "OVERSPILL_API_KEYS" in done.stderr
    assert "entry 2 gives tenant 'b' the key of another tenant" in done.stderr
    assert "Traceback" not in done.stderr
    assert LONG not in done.stderr
