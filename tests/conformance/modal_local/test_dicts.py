"""Dicts through the public SDK and CLI."""

from collections.abc import Iterator

import modal
import pytest
from modal.exception import AlreadyExistsError, NotFoundError

from .conftest import Target

pytestmark = pytest.mark.modal_conformance


@pytest.fixture
def client(bare_target: Target) -> modal.Client:
    return bare_target.client


@pytest.fixture
def prices(client: modal.Client, unique: str) -> Iterator[modal.Dict]:
    yield modal.Dict.from_name(f"prices-{unique}", create_if_missing=True, client=client)
    modal.Dict.objects.delete(f"prices-{unique}", client=client, allow_missing=True)


def test_values_come_back_by_keys_of_any_type(prices: modal.Dict) -> None:
    # given values under keys of different types
    prices["text"] = {"a": [1, 2]}
    prices[7] = "seven"
    prices[("a", 1)] = None
    # then each comes back, and a None is not an absent one
    assert prices["text"] == {"a": [1, 2]}
    assert prices[7] == "seven"
    assert prices.get(("a", 1), "default") is None
    assert ("a", 1) in prices
    assert "7" not in prices


def test_an_absent_key(prices: modal.Dict) -> None:
    assert prices.get("absent") is None
    assert prices.get("absent", 5) == 5
    with pytest.raises(KeyError):
        prices["absent"]
    with pytest.raises(KeyError):
        prices.pop("absent")
    assert prices.pop("absent", "default") == "default"


def test_put_says_whether_it_wrote(prices: modal.Dict) -> None:
    assert prices.put("k", 1, skip_if_exists=True) is True
    assert prices.put("k", 2, skip_if_exists=True) is False
    assert prices["k"] == 1
    assert prices.put("k", 3) is True
    assert prices["k"] == 3


def test_pop_and_del_remove(prices: modal.Dict) -> None:
    prices.update({"a": 1, "b": 2, "c": 3})
    assert prices.pop("a") == 1
    del prices["b"]
    assert dict(prices.items()) == {"c": 3}


def test_update_len_keys_values_items_and_clear(prices: modal.Dict) -> None:
    prices.update({"a": 1, 2: "b"}, c="see")
    assert prices.len() == 3
    assert set(prices.keys()) == {"a", 2, "c"}
    assert set(prices.values()) == {1, "b", "see"}
    assert dict(prices.items()) == {"a": 1, 2: "b", "c": "see"}
    prices.clear()
    assert prices.len() == 0
    assert list(prices.items()) == []


def test_unknown_names_and_ids_are_not_found(client: modal.Client, prices: modal.Dict, unique: str) -> None:
    with pytest.raises(NotFoundError):
        modal.Dict.from_name(f"nowhere-{unique}", client=client).len()
    with pytest.raises(NotFoundError):
        modal.Dict.from_id("di-nowhere", client=client).hydrate()
    prices.hydrate()
    modal.Dict.objects.delete(f"prices-{unique}", client=client)
    with pytest.raises(NotFoundError):
        prices.put("k", 1)


def test_a_dict_that_is_made_again_is_empty(client: modal.Client, prices: modal.Dict, unique: str) -> None:
    prices["k"] = 1
    modal.Dict.objects.delete(f"prices-{unique}", client=client)
    again = modal.Dict.from_name(f"prices-{unique}", create_if_missing=True, client=client)
    assert again.len() == 0
    with pytest.raises(AlreadyExistsError):
        modal.Dict.objects.create(f"prices-{unique}", client=client)


def test_by_id_it_is_the_same_dict(client: modal.Client, prices: modal.Dict, unique: str) -> None:
    prices["k"] = 1
    assert modal.Dict.from_id(prices.object_id, client=client)["k"] == 1
    assert prices.info().name == f"prices-{unique}"


def test_an_ephemeral_dict(client: modal.Client) -> None:
    with modal.Dict.ephemeral(client=client) as one:
        one["k"] = 1
        assert one["k"] == 1


def test_the_cli_reads_lists_and_deletes(bare_target: Target, prices: modal.Dict, unique: str) -> None:
    prices.update({"H100": 3.95})
    name = f"prices-{unique}"
    assert bare_target.cli("dict", "get", name, "H100").stdout.split() == ["3.95"]
    assert f'"{name}"' in bare_target.cli("dict", "list", "--json").stdout
    assert "H100" in bare_target.cli("dict", "items", name, "--json").stdout
    bare_target.cli("dict", "clear", name, "--yes")
    assert prices.len() == 0
    bare_target.cli("dict", "delete", name, "--yes")
    assert bare_target.cli("dict", "get", name, "H100", check=False).returncode != 0
