"""Logs never carry a secret."""

from infra.logs import hide_secrets


def test_values_with_secret_names_and_passwords_in_addresses_are_blanked() -> None:
    given = {"event": "x", "api_key": "k", "s3_secret": "k", "Authorization": "k", "job_id": "j"}
    event = hide_secrets(None, "info", {**given, "url": "redis://user:k@host/0"})
    assert "k" not in {event["api_key"], event["s3_secret"], event["Authorization"]}
    assert event["url"] == "redis://user:***@host/0"
    assert event["job_id"] == "j"
