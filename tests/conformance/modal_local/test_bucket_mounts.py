"""Buckets in containers: what lies in S3 is seen as files, and only read."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import boto3
import modal
import pytest
from botocore.config import Config

from overspill.dev.s3_service import S3Service
from tests.support.modal_local import start_modal_local

from .conftest import Target, target_for

NAME = "bucket-conformance"
KEYS = {"AWS_ACCESS_KEY_ID": "key-of-tests", "AWS_SECRET_ACCESS_KEY": "secret-of-tests"}


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A client of an S3 server of our own, on which `pictures` is."""
    folder = tmp_path_factory.mktemp("s3")
    service = S3Service(
        folder / "data",
        logs=folder,
        access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
        secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
    )
    service.start()
    service.ready()
    client = boto3.client(
        "s3",
        endpoint_url=service.url,
        region_name="us-east-1",
        aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
        config=Config(s3={"addressing_style": "path"}),
    )
    client.create_bucket(Bucket="pictures")
    for key, text in {"index": "two", "cats/tom": "a cat", "cats/wild/lion": "a big one"}.items():
        client.put_object(Bucket="pictures", Key=key, Body=text.encode())
    yield client
    client.close()
    service.stop()


@pytest.fixture(scope="module")
def deployed(bucket: Any) -> Iterator[Target]:
    server = start_modal_local(max_containers=6, starts_per_s=50)
    try:
        here = target_for(server)
        modal.Secret.objects.create(f"{NAME}-keys", KEYS, client=here.client)
        here.environ.update(BUCKET_APP_NAME=NAME, BUCKET_ENDPOINT=bucket.meta.endpoint_url)
        here.cli("deploy", "-m", "bucket_app.app", project="buckets")
        yield here
    finally:
        server.stop()


def reader(here: Target, who: str) -> Any:
    """A container of its own."""
    return modal.Cls.from_name(NAME, "Reader", client=here.client)(who=who)


def test_a_container_sees_the_bucket_as_it_was_when_it_started(deployed: Target, bucket: Any) -> None:
    # Given a bucket that one mount shows whole and another below a prefix
    first = {"all/index": "two", "all/cats/tom": "a cat", "all/cats/wild/lion": "a big one"}
    first |= {"cats/tom": "a cat", "cats/wild/lion": "a big one"}
    # When a container looks, then it sees what is there
    assert reader(deployed, "first").read.remote() == first
    # When the bucket changes, then a container that starts later sees that too
    bucket.put_object(Bucket="pictures", Key="index", Body=b"three")
    assert reader(deployed, "second").read.remote() == {**first, "all/index": "three"}


def test_nothing_can_be_written(deployed: Target, bucket: Any) -> None:
    with pytest.raises(OSError, match=r"Read-only file system|Permission denied"):
        reader(deployed, "writer").write.remote()
    assert "new" not in [entry["Key"] for entry in bucket.list_objects_v2(Bucket="pictures")["Contents"]]


def test_a_mount_to_be_written_to_is_refused_when_it_is_deployed(deployed: Target) -> None:
    # Given an app that wants to write to a bucket, which the stand-in cannot do
    writable = replace(deployed, environ={**deployed.environ, "BUCKET_WRITABLE": "1"})
    # When it is deployed, then that is said at once, with what to do
    done = writable.cli("deploy", "-m", "bucket_app.app", project="buckets", check=False)
    assert done.returncode != 0
    assert "expected read_only=True" in " ".join((done.stdout + done.stderr).split())


def test_a_bucket_that_cannot_be_had_is_told_and_ends_the_call(deployed: Target, bucket: Any) -> None:
    # given a function that mounts a bucket which is not there
    app = modal.App("nowhere")
    keys = modal.Secret.from_dict(dict(KEYS))
    mount = modal.CloudBucketMount("nowhere", bucket_endpoint_url=bucket.meta.endpoint_url, secret=keys, read_only=True)

    @app.function(serialized=True, volumes={"/bucket": mount})
    def look() -> None: ...

    app.deploy(client=deployed.client)

    # when it is called, then the call fails and says why
    with pytest.raises(modal.exception.RemoteError, match="The bucket 'nowhere' could not be read"):
        look.remote()

    # and so does the app's log
    assert "The bucket 'nowhere' could not be read" in deployed.cli("app", "logs", "nowhere", project="buckets").stdout


def test_a_mount_to_be_written_to_is_refused_in_with_options_too(deployed: Target, bucket: Any) -> None:
    mount = modal.CloudBucketMount("pictures", bucket_endpoint_url=bucket.meta.endpoint_url)
    options = modal.Cls.from_name(NAME, "Reader", client=deployed.client).with_options(volumes={"/bucket": mount})
    with pytest.raises(modal.exception.InvalidError, match="expected read_only=True"):
        options(who="options").read.spawn()
