"""The exporter's settings: the control plane's, and its own. Read from `OVERSPILL_...`."""

from pydantic import Field, ValidationError

from infra.settings import Settings


class ExporterSettings(Settings):
    """What the exporter needs beside the settings of the control plane (whose caps and prices it shows)."""

    exporter_host: str = Field(default="127.0.0.1", description="Address to listen on.")
    exporter_port: int = Field(default=9464, ge=0, le=65_535, description="Port to listen on; 0: a free one.")
    exporter_timeout_s: float = Field(
        default=0.5, gt=0, le=10, description="Longest wait for one answer of a Redis during a scrape, seconds."
    )
    exporter_noted_max_age_s: float = Field(
        default=300.0, gt=0, description="What a worker noted longer ago is not shown any more, seconds."
    )


def exporter_settings() -> ExporterSettings:
    """The process's settings.

    Raises:
        SystemExit: a value is out of its bounds; the message names the variable.
    """
    try:
        return ExporterSettings()
    except ValidationError as error:
        lines = [
            f"OVERSPILL_{'_'.join(str(part) for part in detail['loc']).upper()}: {detail['msg']}"
            for detail in error.errors(include_input=False, include_url=False)
        ]
        raise SystemExit("\n".join(["overspill: these settings are wrong:", *lines])) from None
