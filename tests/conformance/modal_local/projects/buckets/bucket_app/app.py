"""Containers that see a bucket as files."""

import os
from pathlib import Path

import modal

HERE = "BUCKET_APP_NAME"
NAME = os.environ.get(HERE, "buckets")
ENDPOINT = os.environ.get("BUCKET_ENDPOINT")
READ_ONLY = "BUCKET_WRITABLE" not in os.environ
ROOT = Path("/mnt/bucket-app")

image = modal.Image.debian_slim().env({HERE: NAME}).add_local_python_source("bucket_app")
app = modal.App(NAME, image=image, include_source=False)
secret = modal.Secret.from_name(f"{NAME}-keys")


def mount(bucket: str, **options: object) -> modal.CloudBucketMount:
    return modal.CloudBucketMount(
        bucket,
        bucket_endpoint_url=ENDPOINT,
        force_path_style=True,
        secret=secret,
        **options,  # type: ignore[arg-type]  # as given
    )


@app.cls(
    volumes={
        str(ROOT / "all"): mount("pictures", read_only=READ_ONLY),
        str(ROOT / "cats"): mount("pictures", key_prefix="cats/", read_only=True),
    }
)
class Reader:
    """Each `who` has a container of its own."""

    who: str = modal.parameter()

    @modal.method()
    def read(self) -> dict[str, str]:
        files = (path for path in ROOT.rglob("*") if path.is_file())
        return {str(path.relative_to(ROOT)): path.read_text() for path in files}

    @modal.method()
    def write(self) -> None:
        (ROOT / "all" / "new").write_text("new")
