"""The deployed trainer: `engines/train` behind a `modal.Cls`. Deploy with `modal deploy -m modal_apps.trainer`.

One app, one image; each GPU class of the catalogue is a class of its own here (`TrainingSession_A100_80GB_4`), made
from the catalogue, with the cores and the memory that training wants beside its GPUs. It writes checkpoints to a volume
and commits after each; it touches neither our Redis nor our S3. By hand:

    modal run [--detach] -m modal_apps.trainer --action smoke|train|evaluate --config FILE [--gpu H100:4] [--name NAME]
"""

import os
from pathlib import Path, PurePosixPath
from typing import Any

import modal

from engines.train.engine import TorchTrainEngine
from modal_apps.announce import announce_or_leave, hinter_of
from modal_apps.container import Container
from modal_apps.gpu_table import retries_of
from modal_apps.gpus import GpuClass, parse, parse_resources, training_classes
from modal_apps.images import CACHE_PATH, train_image
from modal_apps.names import CACHE_VOLUME, CHECKPOINTS_VOLUME, TRAINER_APP, TRAINING_CLASS
from modal_apps.signing import AttemptOf
from modal_apps.training_run import TrainingRun, evaluate, keep_cache, smoke, unless_open, warm_up

#: Modal's own longest time of one call, seconds. Longer runs are cut into segments that resume.
TIMEOUT_S = 24 * 3600
#: An evaluation takes an hour at most, seconds.
EVALUATE_TIMEOUT_S = 3600
#: A container that has trained stays for another segment, an evaluation or a restart of the same run, seconds.
SCALEDOWN_WINDOW_S = int(os.environ.get("OVERSPILL_MODAL_SCALEDOWN_WINDOW_S", "60"))
#: Containers at most, in each GPU class.
MAX_CONTAINERS = int(os.environ.get("OVERSPILL_MODAL_TRAIN_MAX_CONTAINERS", "10"))
#: Cores and GiB beside one GPU of a type, where they are not the catalogue's.
RESOURCES = parse_resources(os.environ.get("OVERSPILL_MODAL_TRAIN_RESOURCES", ""))
#: An S3 bucket with datasets, mounted read-only; the secret holds its credentials. Unset: none is mounted.
DATA_BUCKET = os.environ.get("OVERSPILL_MODAL_DATA_BUCKET", "")
DATA_BUCKET_SECRET = os.environ.get("OVERSPILL_MODAL_DATA_BUCKET_SECRET", "")
#: Where that bucket is, unless it is Amazon's: the address of another S3 service, whose buckets are named in the path.
DATA_BUCKET_ENDPOINT = os.environ.get("OVERSPILL_MODAL_DATA_BUCKET_ENDPOINT", "")
_MOUNTED_BY = {
    name: value
    for name, value in os.environ.items()
    if name
    in ("OVERSPILL_MODAL_DATA_BUCKET", "OVERSPILL_MODAL_DATA_BUCKET_SECRET", "OVERSPILL_MODAL_DATA_BUCKET_ENDPOINT")
}
CHECKPOINTS_PATH, DATA_PATH = "/overspill/checkpoints", "/overspill/data"

#: The cheapest class: smoke tests, and the class without a choice.
CHEAP_GPU = "T4"

app = modal.App(TRAINER_APP, include_source=False)
checkpoints = modal.Volume.from_name(CHECKPOINTS_VOLUME, create_if_missing=True)
cache = modal.Volume.from_name(CACHE_VOLUME, create_if_missing=True)


def _retries(gpu: GpuClass) -> modal.Retries:
    """Retries of Modal's own serve runs by hand, which nobody else watches.

    A call of the ledger is spawned with none (`with_options(retries=0)`): its attempts are counted and paid for there,
    and two who retry would multiply. Neither matters to a preemption: Modal starts the input again in any case, and it
    resumes from its last checkpoint.
    """
    plan = retries_of(gpu)
    return modal.Retries(max_retries=plan.retries, initial_delay=plan.first_s, backoff_coefficient=plan.backoff)


def _volumes() -> dict[str | PurePosixPath, modal.Volume | modal.CloudBucketMount]:
    mounted: dict[str | PurePosixPath, modal.Volume | modal.CloudBucketMount] = {
        CHECKPOINTS_PATH: checkpoints,
        CACHE_PATH: cache,
    }
    if DATA_BUCKET:
        secret = modal.Secret.from_name(DATA_BUCKET_SECRET) if DATA_BUCKET_SECRET else None
        mounted[DATA_PATH] = modal.CloudBucketMount(
            DATA_BUCKET,
            bucket_endpoint_url=DATA_BUCKET_ENDPOINT or None,
            force_path_style=bool(DATA_BUCKET_ENDPOINT),
            secret=secret,
            read_only=True,
        )
    return mounted


class Session:
    """One training run at a time, on the GPUs of its class. Every class of the app is made of this one."""

    @modal.enter(snap=True)
    def load(self) -> None:
        """Before the memory snapshot, without a GPU: the imports, which take most of a cold start."""
        import engines.train.single  # noqa: F401, PLC0415 - imports torch, which only a container has to have

        self.engine = TorchTrainEngine()

    @modal.enter(snap=False)
    def start(self) -> None:
        """After the snapshot was restored: the device, so that the first step does not wait for CUDA."""
        self.container = Container()
        self.run: TrainingRun | None = None
        warm_up()

    @modal.method()
    def train(
        self, request: dict[str, Any], attempt_of: tuple[str, int] | tuple[str, int, str] | None = None
    ) -> dict[str, Any]:
        """Train one segment (`TrainRequest.to_wire()`); the answer is `Envelope.to_wire()`.

        `attempt_of` is the job and the attempt that it is for, and the key that signs for it: the call announces itself
        under them first, and leaves at once if another call of the same attempt works already. The value is
        `training_run.segment_value`.
        """
        handled = self.container.begin()
        of = AttemptOf(*attempt_of) if attempt_of is not None else None
        announced, leaves = announce_or_leave(of, self.container.here)
        if leaves is not None:
            return handled.answer(None, leaves)
        hinter = hinter_of(announced, of)
        self.run = TrainingRun(
            self.engine,
            root=Path(CHECKPOINTS_PATH),
            cache=Path(CACHE_PATH),
            data_root=Path(DATA_PATH),
            volume=checkpoints,
            on_percent=hinter.progress if hinter is not None else lambda _: None,
            attempt=of.attempt if of is not None else 0,
        )
        answer = self.run.go(request)
        keep_cache(cache)
        if hinter is not None:
            hinter.done(peak_gpu_memory_bytes=answer.peak_gpu_memory_bytes)
        return handled.answer(
            answer.value, answer.error, announced=announced, peak_gpu_memory_bytes=answer.peak_gpu_memory_bytes
        )

    @modal.method()
    def evaluate(self, request: dict[str, Any]) -> dict[str, Any]:
        """Evaluate the best checkpoint of a job's folder on its dataset; the answer is `Envelope.to_wire()`."""
        handled = self.container.begin()
        unless_open(checkpoints.reload)
        answer = evaluate(request, root=Path(CHECKPOINTS_PATH), cache=Path(CACHE_PATH), data_root=Path(DATA_PATH))
        return handled.answer(answer.value, answer.error, peak_gpu_memory_bytes=answer.peak_gpu_memory_bytes)

    @modal.method()
    def smoke(self, config: dict[str, Any] | None = None) -> dict[str, Any]:
        """Imports, device, two steps (of a config, or of each recipe); the answer is `Envelope.to_wire()`."""
        handled = self.container.begin()
        answer = smoke(config)
        return handled.answer(answer.value, answer.error, peak_gpu_memory_bytes=answer.peak_gpu_memory_bytes)

    @modal.exit()
    def save(self) -> None:
        """The container is taken away or scaled down: a run that is under way leaves a checkpoint, within the grace."""
        if self.run is not None:
            self.run.save_and_end()


def _make(name: str, gpu: GpuClass) -> type[Any]:
    """The class `name` on a GPU class. Modal looks it up in this module when a container starts."""
    made = type(name, (Session,), {"__module__": __name__, "__qualname__": name, "__doc__": Session.__doc__})
    decorate = app.cls(
        image=train_image(_MOUNTED_BY),
        gpu=gpu.name,
        cpu=gpu.cpu_cores,
        memory=gpu.memory_mib,
        timeout=TIMEOUT_S,
        scaledown_window=SCALEDOWN_WINDOW_S,
        min_containers=0,
        max_containers=MAX_CONTAINERS,
        retries=_retries(gpu),
        volumes=_volumes(),
        enable_memory_snapshot=True,
    )
    return decorate(made)


#: Every class by its name on Modal. The one without a GPU in its name is the cheapest.
SESSIONS: dict[str, Any] = {
    name: _make(name, gpu)
    for name, gpu in [
        (TRAINING_CLASS, parse(CHEAP_GPU)),
        *((gpu.alias, gpu) for gpu in training_classes(RESOURCES)),
    ]
}
globals().update(SESSIONS)


@app.local_entrypoint()
def main(action: str, config: str = "", gpu: str = "", name: str = "") -> None:
    """Train, evaluate or try by hand.

    Args:
        action: `smoke`, `train` or `evaluate`.
        config: a TOML or JSON file with the fields of a train config; `smoke` needs none.
        gpu: the GPU class; empty: the cheapest for a smoke test, else what the model needs.
        name: the run's name; empty: named by its config, so that the same config resumes.
    """
    from modal_apps.by_hand import run_by_hand  # noqa: PLC0415 - containers have no use for it

    code = run_by_hand(
        SESSIONS,
        action=action,
        config=config,
        gpu=gpu,
        name=name,
        evaluate_timeout_s=EVALUATE_TIMEOUT_S,
        data_bucket=DATA_BUCKET or None,
    )
    if code:
        raise SystemExit(code)
