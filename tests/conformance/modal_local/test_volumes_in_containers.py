"""Volumes and secrets in containers: what one writes, another sees after commit and reload."""

import io
import time
from collections.abc import Callable, Iterator

import modal
import pytest

from .conftest import Target

pytestmark = pytest.mark.modal_conformance


@pytest.fixture(scope="module")
def name() -> str:
    return "storage-conformance"


@pytest.fixture(scope="module")
def deployed(bare_target: Target, name: str) -> Iterator[Target]:
    modal.Secret.objects.create(
        f"{name}-secret", {"FLAVOUR": "vanilla"}, client=bare_target.client, allow_existing=True
    )
    bare_target.environ["STORAGE_APP_NAME"] = name
    bare_target.cli("deploy", "-m", "storage_app.app", project="storage")
    yield bare_target
    bare_target.cli("app", "stop", name, "--yes", check=False)
    for volume in ("one", "two"):
        modal.Volume.objects.delete(f"{name}-{volume}", client=bare_target.client, allow_missing=True)
    modal.Secret.objects.delete(f"{name}-secret", client=bare_target.client)


Worker = Callable[..., list[str]]


@pytest.fixture
def worker(deployed: Target, name: str) -> Callable[[str], Worker]:
    """By name, a container that lives on between calls and does the steps that it is given."""

    def of(who: str) -> Worker:
        instance = modal.Cls.from_name(name, "Writer", client=deployed.client)(who=who)

        def do(*steps: str) -> list[str]:
            answers: list[str] = instance.do.remote([step.split(" ", 2) for step in steps])
            return answers

        return do

    return of


@pytest.mark.parametrize("volume", ["one", "two"])
def test_another_container_sees_a_file_only_after_commit_and_reload(
    worker: Callable[[str], Worker], volume: str, unique: str
) -> None:
    # given two containers with the same volume
    first, second = worker("first"), worker("second")
    path = f"{volume}/{unique}"
    assert first(f"list {volume}")[0].count(unique) == second(f"list {volume}")[0].count(unique) == 0
    # when the first writes a file, then only it sees the file
    assert first(f"write {path} hello", f"read {path}") == ["ok", "hello"]
    assert second(f"read {path}")[0].startswith("FileNotFoundError")
    # a reload of the second changes nothing yet
    assert second(f"reload {volume}", f"list {volume}")[1].count(unique) == 0
    # a commit of the first does not change what the second sees
    assert first(f"commit {volume}") == ["ok"]
    assert second(f"read {path}")[0].startswith("FileNotFoundError")
    # but a reload then does
    assert second(f"reload {volume}", f"read {path}") == ["ok", "hello"]


def test_a_removal_is_committed_too(worker: Callable[[str], Worker], unique: str) -> None:
    first, second = worker("first"), worker("second")
    first(f"write one/{unique} x", "commit one")
    assert second("reload one", f"read one/{unique}", f"remove one/{unique}", "commit one") == ["ok", "x", "ok", "ok"]
    assert first("reload one", f"read one/{unique}")[1].startswith("FileNotFoundError")


def test_of_two_who_write_the_same_file_the_last_to_commit_wins(worker: Callable[[str], Worker], unique: str) -> None:
    first, second = worker("first"), worker("second")
    first(f"write two/{unique} one", f"write two/{unique}-1 mine")
    second(f"write two/{unique} two", f"write two/{unique}-2 mine")
    assert (first("commit two"), second("commit two")) == (["ok"], ["ok"])
    # the commit reloads, so the second sees the first's other file, and the first after a reload sees the second's
    assert second(f"read two/{unique}", f"read two/{unique}-1") == ["two", "mine"]
    assert first("reload two", f"read two/{unique}", f"read two/{unique}-2") == ["ok", "two", "mine"]


def test_a_reload_with_open_files_is_refused(worker: Callable[[str], Worker], unique: str) -> None:
    first = worker("first")
    first(f"write one/{unique} x", f"open one/{unique}")
    (refused,) = first("reload one")
    assert refused.startswith("RuntimeError: there are open files preventing the operation")
    assert first("close one", "reload one", f"read one/{unique}") == ["ok", "ok", "x"]


def test_clients_and_containers_see_each_others_commits(
    deployed: Target, worker: Callable[[str], Worker], name: str, unique: str
) -> None:
    # given a file that a client has put
    volume = modal.Volume.from_name(f"{name}-two", client=deployed.client)
    with volume.batch_upload() as batch:
        batch.put_file(io.BytesIO(b"from outside"), f"/{unique}/in")
    # when a container reads it and commits another
    first = worker("first")
    first("reload two")
    steps = [f"read two/{unique}/in", f"write two/{unique}/out from_inside", "commit two"]
    assert first(*steps) == ["from outside", "ok", "ok"]
    # then the client reads that one, and the CLI too
    assert b"".join(volume.read_file(f"{unique}/out")) == b"from_inside"
    assert deployed.cli("volume", "ls", f"{name}-two", f"/{unique}").stdout.split() == [f"{unique}/in", f"{unique}/out"]


def test_a_sub_path_is_a_part_of_the_volume(
    deployed: Target, name: str, worker: Callable[[str], Worker], unique: str
) -> None:
    # given a function that mounts only /part of the volume, which need not be there yet
    partial = modal.Function.from_name(name, "partial", client=deployed.client)
    assert partial.remote([["write", f"part/{unique}", "x"], ["read", f"part/{unique}"]]) == ["ok", "x"]
    # then one that mounts all of it sees its file in /part
    assert worker("first")("reload two", f"read two/part/{unique}") == ["ok", "x"]


def test_a_read_only_mount_cannot_be_written_to(deployed: Target, name: str, worker: Callable[[str], Worker]) -> None:
    worker("first")("write two/for-readers text", "commit two")
    reader = modal.Function.from_name(name, "reader", client=deployed.client)
    read, written = reader.remote([["read", "two/for-readers"], ["write", "two/x", "y"]])
    assert read == "text"
    assert "Read-only file system" in written


def test_a_container_that_ends_in_good_order_commits(deployed: Target, name: str, unique: str) -> None:
    leave = modal.Function.from_name(name, "leave", client=deployed.client)
    volume = modal.Volume.from_name(f"{name}-one", client=deployed.client)
    assert leave.remote([["write", f"one/{unique}", "last words"]]) == ["ok"]
    give_up = time.monotonic() + 20
    while unique not in [entry.path for entry in volume.listdir("/")]:
        assert time.monotonic() < give_up, "the container did not commit within 20 s of its end"
        time.sleep(0.1)
    assert b"".join(volume.read_file(unique)) == b"last words"


def test_containers_have_the_variables_of_their_secrets(worker: Callable[[str], Worker]) -> None:
    assert worker("first")("variable FLAVOUR", "variable NOWHERE") == ["vanilla", "absent"]


def test_a_function_of_a_secret_that_is_not_there_is_not_deployed(deployed: Target, name: str) -> None:
    environ = {**deployed.environ, "STORAGE_APP_NAME": "storage-without-secret"}
    elsewhere = Target(deployed.server, environ, deployed.client)
    failed = elsewhere.cli("deploy", "-m", "storage_app.app", project="storage", check=False)
    assert failed.returncode != 0
    assert "storage-without-secret-secret" in failed.stderr + failed.stdout
    for volume in ("one", "two"):
        modal.Volume.objects.delete(f"storage-without-secret-{volume}", client=deployed.client, allow_missing=True)
