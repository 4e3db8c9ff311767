"""Secrets through the public SDK and CLI, and in containers."""

from collections.abc import Iterator

import modal
import pytest
from modal.exception import AlreadyExistsError, ConflictError, InvalidError, NotFoundError

from .conftest import Target

pytestmark = pytest.mark.modal_conformance


@pytest.fixture
def client(bare_target: Target) -> modal.Client:
    return bare_target.client


@pytest.fixture
def name(client: modal.Client, unique: str) -> Iterator[str]:
    yield f"secret-{unique}"
    modal.Secret.objects.delete(f"secret-{unique}", client=client, allow_missing=True)


def test_a_name_is_taken_once(client: modal.Client, name: str) -> None:
    modal.Secret.objects.create(name, {"KEY": "old"}, client=client)
    with pytest.raises(AlreadyExistsError, match=name):
        modal.Secret.objects.create(name, {"KEY": "new"}, client=client)
    modal.Secret.objects.create(name, {"KEY": "new"}, client=client, allow_existing=True)
    assert name in [one.name for one in modal.Secret.objects.list(client=client)]
    modal.Secret.objects.delete(name, client=client)
    with pytest.raises(NotFoundError, match=name):
        modal.Secret.from_name(name, client=client).hydrate()


def test_a_missing_required_key_is_named(client: modal.Client, name: str) -> None:
    modal.Secret.objects.create(name, {"KEY": "1"}, client=client)
    modal.Secret.from_name(name, client=client, required_keys=["KEY"]).hydrate()
    with pytest.raises(ConflictError, match=r"^Secret is missing key\(s\): ABSENT$"):
        modal.Secret.from_name(name, client=client, required_keys=["KEY", "ABSENT"]).hydrate()


def test_a_name_that_cannot_be_a_variable_is_refused(client: modal.Client, name: str) -> None:
    with pytest.raises(InvalidError, match="A=B"):
        modal.Secret.objects.create(name, {"A=B": "1"}, client=client)
    with pytest.raises(NotFoundError):
        modal.Secret.from_name(name, client=client).hydrate()


def test_a_secret_knows_its_name_and_keeps_its_values(client: modal.Client, name: str) -> None:
    modal.Secret.objects.create(name, {"KEY": "1"}, client=client)
    info = modal.Secret.from_name(name, client=client).info()
    assert (info.name, info.last_used) == (name, None)
    assert "KEY" not in str(info)


def test_the_cli_creates_overwrites_and_lists_without_values(bare_target: Target, name: str) -> None:
    bare_target.cli("secret", "create", name, "TOKEN=hf_first")
    refused = bare_target.cli("secret", "create", name, "TOKEN=hf_second", check=False)
    assert refused.returncode != 0
    assert "already exists" in refused.stderr + refused.stdout
    bare_target.cli("secret", "create", name, "TOKEN=hf_third", "--force")
    listing = bare_target.cli("secret", "list", "--json").stdout
    assert f'"{name}"' in listing
    assert "hf_third" not in listing
    bare_target.cli("secret", "delete", name, "--yes")
    assert name not in bare_target.cli("secret", "list", "--json").stdout
