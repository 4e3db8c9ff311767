"""Addresses of Redis: what is understood, and what is refused with a sentence."""

import pytest

from ledger.server import WrongLedgerAddress, address_of, connect, parse_sentinel
from tests.support.settings import ledger_settings_of


def test_a_sentinel_address_has_hosts_service_and_database() -> None:
    address = parse_sentinel("sentinel://user:p%40ss@h1:26380,h2/mymaster/3?ssl=true")
    assert address.sentinels == (("h1", 26380), ("h2", 26379))
    assert (address.service, address.database, address.username, address.password) == ("mymaster", 3, "user", "p@ss")
    assert address.tls


@pytest.mark.parametrize(
    "url",
    ["sentinel://h1", "sentinel://h1:x/m", "sentinel://:1/m", "sentinel://h/m/x", "http://h", "localhost:6379", ""],
)
def test_what_is_no_address_is_refused_with_a_sentence(url: str) -> None:
    with pytest.raises(WrongLedgerAddress, match="OVERSPILL_LEDGER_URL"):
        connect(ledger_settings_of({"ledger_url": url}))


def test_an_address_is_shown_without_its_password() -> None:
    assert address_of("redis://user:hush@host:1/2") == "host:1/2"
    assert address_of("sentinel://user:hush@a:1,b:2/m/0") == "a:1,b:2/m/0"
    assert address_of("unix:///run/redis.sock") == "/run/redis.sock"
