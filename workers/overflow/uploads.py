"""Addresses for containers that put their files straight into S3, and the check of what they put."""

from collections.abc import Mapping

from ledger.models import JobRecord
from modal_apps.uploads import UploadAddress
from workers.resources import Resources

#: An address outlives its call's deadline by this, seconds.
EXPIRY_MARGIN_S = 600.0


def upload_addresses(open_ends: Resources, record: JobRecord) -> Mapping[str, UploadAddress] | None:
    """Where an attempt's container puts its files; None: they come back as the function's result."""
    settings = open_ends.settings
    if settings.result_transport == "inline":
        return None
    return open_ends.artifacts.upload_addresses(
        record.id, record.attempt, expires_in_s=settings.call_deadline_s + EXPIRY_MARGIN_S
    )
