"""The API's keys as they are written: `key` or `tenant=key`, comma separated. Pure."""

#: The shortest key that is accepted, characters.
API_KEY_MIN_CHARS = 16
#: Whose key it is that stands alone.
BARE_TENANT = "default"


def parse_api_keys(text: str) -> dict[str, str]:
    """API key -> tenant. A tenant's name is what stands before the first `=`: a key may hold more of them.

    Raises:
        ValueError: a key is too short, or stands for two tenants, or an entry names no tenant. Keys are not shown.
    """
    tenants: dict[str, str] = {}
    for nth, entry in enumerate((entry.strip() for entry in text.split(",")), start=1):
        if not entry:
            continue
        before, separator, after = (part.strip() for part in entry.partition("="))
        tenant, key = (before, after) if separator else (BARE_TENANT, before)
        if not tenant:
            raise ValueError(f"entry {nth} names no tenant before its `=`; write `tenant=key`")
        if len(key) < API_KEY_MIN_CHARS:
            hint = f" (a key that itself holds a `=` is written `{BARE_TENANT}=key`)" if separator else ""
            raise ValueError(
                f"entry {nth} has a key of {len(key)} characters, expected {API_KEY_MIN_CHARS} at least{hint}"
            )
        if tenants.setdefault(key, tenant) != tenant:
            raise ValueError(f"entry {nth} gives tenant {tenant[:64]!r} the key of another tenant")
    return tenants
