"""Whose request is it."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.auth import KeyRing, authenticate, key_ring
from api.errors import Unauthorized
from tests.support.settings import settings_of

# Machines differ: what is checked is the outcome, never how fast it was found.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

RING = KeyRing({"k1": "default", "k2": "acme", "schlüssel": "umlaut"})


@pytest.mark.parametrize(
    ("header", "tenant"),
    [
        ("Bearer k1", "default"),
        ("bearer  k2 ", "acme"),
        # as it arrives: the client wrote UTF-8, the server read latin-1
        ("Bearer " + "schlüssel".encode().decode("latin-1"), "umlaut"),
    ],
)
def test_a_key_has_its_tenant(header: str, tenant: str) -> None:
    assert authenticate(RING, header) == tenant


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (None, "missing_api_key"),
        ("", "missing_api_key"),
        ("Bearer", "missing_api_key"),
        ("Bearer  ", "missing_api_key"),
        ("Basic k1", "missing_api_key"),
        ("k1", "missing_api_key"),
        ("Bearer k3", "invalid_api_key"),
        ("Bearer k", "invalid_api_key"),
        ("Bearer k1 k1", "invalid_api_key"),
    ],
)
def test_no_key_or_a_wrong_one_is_refused(header: str | None, code: str) -> None:
    with pytest.raises(Unauthorized) as refused:
        authenticate(RING, header)
    assert (refused.value.status, refused.value.code, refused.value.param) == (401, code, "Authorization")
    assert refused.value.headers == {"WWW-Authenticate": "Bearer"}


@patient
@given(st.text(st.characters(max_codepoint=255)))
def test_any_other_header_is_refused(header: str) -> None:
    if header.removeprefix("Bearer ").strip() not in ("k1", "k2"):
        with pytest.raises(Unauthorized):
            authenticate(RING, header)


def test_open_means_the_default_tenant() -> None:
    assert key_ring(settings_of(api_auth="off")) is None
    assert authenticate(None, None) == "default"


@pytest.mark.parametrize("keys", ["", " , "])
def test_a_door_without_a_key_does_not_open(keys: str) -> None:
    with pytest.raises(SystemExit, match="OVERSPILL_API_KEYS holds none"):
        key_ring(settings_of({"api_keys": keys}))


def test_a_tenant_that_cannot_be_one_is_said_at_the_start() -> None:
    with pytest.raises(SystemExit, match="'Not A Tenant'"):
        key_ring(settings_of({"api_keys": "Not A Tenant=a-key-of-23-characters"}))
