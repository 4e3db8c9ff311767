"""One stack to a folder; its secrets stay, its environment goes with it."""

import socket
import stat
from pathlib import Path

import pytest

from overspill.dev.environment import inherited
from overspill.dev.errors import AlreadyRunning
from overspill.dev.ports import free_ports, is_free
from overspill.dev.state_folder import StateFolder, read_environment


def test_a_second_stack_in_the_same_folder_is_refused_in_one_sentence(tmp_path: Path) -> None:
    # given a folder that is taken
    first = StateFolder(tmp_path / "state")
    first.claim()
    # when another wants it / then it is told who has it
    with pytest.raises(AlreadyRunning, match=r"already running in .*state \(process \d+\)"):
        StateFolder(tmp_path / "state").claim()
    # and once it is released (twice), it can be taken
    first.release()
    first.release()
    second = StateFolder(tmp_path / "state")
    second.claim()
    second.release()


def test_the_environment_can_be_read_back_whatever_it_holds(tmp_path: Path) -> None:
    # given an environment with spaces, quotes and equals signs
    folder = StateFolder(tmp_path)
    folder.claim()
    environment = {"A": "plain", "B": "with space", "C": 'it\'s = "quoted" $HOME', "D": ""}
    # when it is written
    folder.write_environment(environment)
    # then it reads back the same, only its owner may read it, and it ends with the stack
    assert read_environment(tmp_path) == environment
    assert stat.S_IMODE((tmp_path / "env").stat().st_mode) == 0o600
    folder.release()
    assert read_environment(tmp_path) == {}


def test_secrets_stay_and_are_private(tmp_path: Path) -> None:
    # given a folder / when its secrets are asked for twice
    folder = StateFolder(tmp_path)
    folder.claim()
    first = folder.secrets()
    # then they are the same, made up, and only their owner may read them
    assert StateFolder(tmp_path).secrets() == first
    assert len({first.api_key, first.s3_secret_access_key, first.flower_password}) == 3
    assert stat.S_IMODE((tmp_path / "secrets.json").stat().st_mode) == 0o600
    folder.release()


def test_free_ports_are_different_and_outside_the_range_of_outgoing_connections() -> None:
    # given / when many ports are asked for / then no two are the same, and no outgoing connection can take one
    ports = free_ports(50)
    assert len(set(ports)) == 50
    assert max(ports) < 32_768


def test_a_port_with_a_listener_is_not_free() -> None:
    # given somebody who listens / then that port is not free, and is once he has gone
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert not is_free(port)
    assert is_free(port)


def test_what_processes_inherit_is_theirs_to_have(tmp_path: Path) -> None:
    # given a person with accounts of his own
    person = {
        "MODAL_TOKEN_ID": "ak-own",
        "AWS_ACCESS_KEY_ID": "own",
        "AWS_CA_BUNDLE": "/ca",
        "HOME": "/h",
        "PATH": "/p",
    }
    # when a stack's process inherits from him
    environment = inherited(tmp_path, person)
    # then his accounts are not among it, the rest is, and its temporary files stay in the stack's folder
    assert not {"MODAL_TOKEN_ID", "AWS_ACCESS_KEY_ID"} & set(environment)
    assert (environment["HOME"], environment["AWS_CA_BUNDLE"]) == ("/h", "/ca")
    assert environment["PATH"].endswith(":/p")
    assert environment["TMPDIR"] == str(tmp_path / "tmp")
    assert environment["OVERSPILL_STATE"] == str(tmp_path)
