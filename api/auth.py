"""Whose request is this? The tenant of the bearer key that it carries."""

import hashlib
import hmac
from collections.abc import Mapping

from pydantic import ValidationError

from api.errors import Unauthorized
from infra.settings import Settings
from ledger.models import RenderJob

#: Whose jobs they are when no key is asked for.
OPEN_TENANT = "default"

_CHALLENGE = {"WWW-Authenticate": "Bearer"}


class KeyRing:
    """The accepted keys, kept as digests: of equal length, and useless in a memory dump."""

    def __init__(self, tenants_by_key: Mapping[str, str]) -> None:
        self._tenants = [(_digest(key.encode()), tenant) for key, tenant in tenants_by_key.items()]

    def tenant_of(self, key: bytes) -> str | None:
        """The tenant of a key, None if it is not one of ours. Takes the same time for every key."""
        presented, found = _digest(key), None
        for digest, tenant in self._tenants:
            if hmac.compare_digest(digest, presented):
                found = tenant
        return found


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def key_ring(settings: Settings) -> KeyRing | None:
    """The keys to ask for; None: no key is asked for.

    Raises:
        SystemExit: keys are required and there is none, or a tenant's name cannot be one.
    """
    if settings.api.auth == "off":
        return None
    tenants_by_key = settings.api.tenants_by_key
    if not tenants_by_key:
        raise SystemExit(
            "overspill api: an API key is required and OVERSPILL_API_KEYS holds none: "
            "set it to `key` or `tenant=key`, or set OVERSPILL_API_AUTH=off to let everybody in."
        )
    for tenant in tenants_by_key.values():
        try:
            RenderJob(prompt="-", tenant=tenant)
        except ValidationError:
            raise SystemExit(
                f"overspill api: OVERSPILL_API_KEYS names the tenant {tenant[:64]!r}; expected small letters, digits, "
                "`.`, `_` and `-`, 64 at most."
            ) from None
    return KeyRing(tenants_by_key)


def authenticate(ring: KeyRing | None, authorization: str | None) -> str:
    """The tenant of an `Authorization` header.

    Raises:
        Unauthorized: there is no key, or not one of ours.
    """
    if ring is None:
        return OPEN_TENANT
    scheme, _, key = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise Unauthorized(
            "Expected an API key in the header `Authorization: Bearer KEY`, got none.",
            code="missing_api_key",
            param="Authorization",
            headers=_CHALLENGE,
        )
    # Header bytes reach us as latin-1; the key in the settings is UTF-8.
    tenant = ring.tenant_of(key.strip().encode("latin-1"))
    if tenant is None:
        raise Unauthorized(
            "The API key is not one of ours. Check the key, or ask the operator of this service for one.",
            code="invalid_api_key",
            param="Authorization",
            headers=_CHALLENGE,
        )
    return tenant
