"""What was stored is there after the server was killed: volumes, and with them dicts, queues and secrets."""

import io
from pathlib import Path

import modal
import pytest
from modal.exception import AlreadyExistsError

from tests.support.modal_local import start_modal_local

from .conftest import make_client


@pytest.mark.parametrize("version", [1, 2])
def test_everything_that_was_answered_survives_sigkill(tmp_path: Path, version: int) -> None:
    # given a server with something of each kind on it
    first = start_modal_local(state_dir=tmp_path)
    try:
        client = make_client(first)
        volume = modal.Volume.from_name("data", create_if_missing=True, version=version, client=client)
        with volume.batch_upload() as batch:
            batch.put_file(io.BytesIO(b"kept" * 2_000_000), "/dir/file")
        prices = modal.Dict.from_name("prices", create_if_missing=True, client=client)
        prices.update({"H100": 3.95, "T4": 0.59})
        prices.pop("T4")
        jobs = modal.Queue.from_name("jobs", create_if_missing=True, client=client)
        jobs.put_many([1, 2, 3], partition="p")
        assert jobs.get(partition="p") == 1
        modal.Secret.objects.create("storage", {"KEY": "value"}, client=client)
        # when it is killed the moment after its last answer
        first.kill()
        client.close()
    finally:
        first.kill()
    # then one that starts on the same state has it all, and nothing that was taken out
    second = start_modal_local(state_dir=tmp_path)
    try:
        client = make_client(second)
        volume = modal.Volume.from_name("data", client=client)
        assert b"".join(volume.read_file("dir/file")) == b"kept" * 2_000_000
        assert dict(modal.Dict.from_name("prices", client=client).items()) == {"H100": 3.95}
        assert modal.Queue.from_name("jobs", client=client).get_many(5, partition="p") == [2, 3]
        with pytest.raises(AlreadyExistsError):
            modal.Secret.objects.create("storage", {"KEY": "other"}, client=client)
        client.close()
    finally:
        second.stop()
