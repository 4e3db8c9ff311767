"""Secrets where a test looks at what containers would get: the real SDK and CLI, the service alone."""

from collections.abc import Iterator
from pathlib import Path

import modal
import pytest
from modal.exception import AlreadyExistsError, NotFoundError

from modal_local.errors import NotFoundError as ServerNotFoundError
from modal_local.services.secrets import SecretService
from tests.support.storage_server import StorageServer, storage_server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StorageServer]:
    with storage_server(tmp_path, lambda context: [SecretService(context)]) as running:
        yield running


@pytest.fixture
def client(server: StorageServer) -> Iterator[modal.Client]:
    with server.client() as one:
        yield one


def values_of(server: StorageServer, *secret_ids: str) -> dict[str, str]:
    """What a container would get."""

    async def ask() -> dict[str, str]:
        answer: dict[str, str] = server.services[0].env_for(list(secret_ids))
        return answer

    found: dict[str, str] = server.run(ask())
    return found


def test_a_named_secret_gives_its_variables_to_containers(client: modal.Client, server: StorageServer) -> None:
    # given a secret
    modal.Secret.objects.create("storage", {"KEY": "k=1", "OTHER": ""}, client=client)
    # when it is looked up
    secret = modal.Secret.from_name("storage", client=client, required_keys=["KEY"]).hydrate()
    # then a container that uses it gets its variables
    assert values_of(server, secret.object_id) == {"KEY": "k=1", "OTHER": ""}
    assert secret.info().name == "storage"


def test_of_two_secrets_the_later_one_wins(client: modal.Client, server: StorageServer) -> None:
    first = modal.Secret.from_dict({"A": "1", "B": "1", "NONE": None}).hydrate(client)
    second = modal.Secret.from_dict({"B": "2"}).hydrate(client)
    assert values_of(server, first.object_id, second.object_id) == {"A": "1", "B": "2"}


def test_an_existing_secret_is_left_as_it_is(client: modal.Client, server: StorageServer) -> None:
    modal.Secret.objects.create("storage", {"KEY": "old"}, client=client)
    with pytest.raises(AlreadyExistsError, match="storage"):
        modal.Secret.objects.create("storage", {"KEY": "new"}, client=client)
    modal.Secret.objects.create("storage", {"KEY": "new"}, client=client, allow_existing=True)
    secret = modal.Secret.from_name("storage", client=client).hydrate()
    assert values_of(server, secret.object_id) == {"KEY": "old"}


def test_update_merges(client: modal.Client, server: StorageServer) -> None:
    modal.Secret.objects.create("storage", {"A": "1", "B": "1"}, client=client)
    secret = modal.Secret.from_name("storage", client=client)
    secret.hydrate()
    secret.update({"B": "2", "C": "3"})
    assert values_of(server, secret.object_id) == {"A": "1", "B": "2", "C": "3"}


def test_unknown_secrets_are_not_found(client: modal.Client, server: StorageServer) -> None:
    with pytest.raises(NotFoundError, match="nowhere"):
        modal.Secret.from_name("nowhere", client=client).hydrate()
    with pytest.raises(ServerNotFoundError):
        values_of(server, "st-nowhere")


def test_list_and_delete(client: modal.Client, server: StorageServer) -> None:
    for name in ("one", "two"):
        modal.Secret.objects.create(name, {"KEY": "1"}, client=client)
    modal.Secret.from_dict({"UNNAMED": "1"}).hydrate(client)
    assert [one.name for one in modal.Secret.objects.list(client=client)] == ["two", "one"]
    deleted = modal.Secret.from_name("one", client=client).hydrate()
    modal.Secret.objects.delete("one", client=client)
    assert [one.name for one in modal.Secret.objects.list(client=client)] == ["two"]
    with pytest.raises(ServerNotFoundError):
        values_of(server, deleted.object_id)


def test_a_use_is_remembered(client: modal.Client, server: StorageServer) -> None:
    modal.Secret.objects.create("storage", {"KEY": "1"}, client=client)
    secret = modal.Secret.from_name("storage", client=client).hydrate()
    assert secret.info().last_used is None
    values_of(server, secret.object_id)
    assert secret.info(refresh=True).last_used is not None


def test_a_restart_keeps_secrets(tmp_path: Path) -> None:
    with storage_server(tmp_path, lambda context: [SecretService(context)]) as first, first.client() as client:
        modal.Secret.objects.create("storage", {"KEY": "1"}, client=client)
        unnamed = modal.Secret.from_dict({"U": "2"}).hydrate(client).object_id
    with storage_server(tmp_path, lambda context: [SecretService(context)]) as second, second.client() as client:
        named = modal.Secret.from_name("storage", client=client).hydrate().object_id
        assert values_of(second, named, unnamed) == {"KEY": "1", "U": "2"}


def test_the_cli_creates_overwrites_and_lists_without_values(server: StorageServer, client: modal.Client) -> None:
    # given a secret made by the CLI
    assert server.cli("secret", "create", "hub", "TOKEN=hf_first").returncode == 0
    secret = modal.Secret.from_name("hub", client=client).hydrate()
    assert values_of(server, secret.object_id) == {"TOKEN": "hf_first"}
    # when it is made again
    refused = server.cli("secret", "create", "hub", "TOKEN=hf_second")
    # then only --force overwrites it
    assert refused.returncode != 0
    assert "already exists" in refused.stderr + refused.stdout
    assert server.cli("secret", "create", "hub", "TOKEN=hf_third", "--force").returncode == 0
    assert values_of(server, secret.object_id) == {"TOKEN": "hf_third"}
    # and a listing shows its name, never its value
    listing = server.cli("secret", "list", "--json").stdout
    assert '"hub"' in listing
    assert "hf_third" not in listing
    assert server.cli("secret", "delete", "hub", "--yes").returncode == 0
