"""What a job is: the two kinds of job with every bound stated, and the record that the ledger keeps of one.

`RenderJob` and `TrainJob` are what other services send; they are validated here and nowhere else. `JobRecord` is
what they get back: a frozen picture of one job at one instant.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from ledger.errors import RecordUnreadable
from ledger.states import PUBLIC_STATUS, TERMINAL, Pool, State

#: Longest prompt, in characters (the Videos API's own bound).
PROMPT_MAX_CHARS = 32_000
#: So much of a prompt is shown in a listing, characters.
BRIEF_PROMPT_CHARS = 256
#: Shortest and longest clip, in whole seconds. The Videos API offers 4, 8 and 12, and 20 by extension.
SECONDS_MIN, SECONDS_MAX = 1, 20
#: Frames per second.
FPS_MIN, FPS_MAX = 8, 60
#: Sizes on offer, width x height in pixels. The first four are the Videos API's.
SIZES = ("720x1280", "1280x720", "1024x1792", "1792x1024", "640x360", "360x640", "480x480", "320x180")
#: A job may ask for an end within a second at the least, and within thirty days at the most.
DEADLINE_MIN_S, DEADLINE_MAX_S = 1.0, 30 * 86_400.0
#: The longest idempotency key, in characters.
IDEMPOTENCY_KEY_MAX_CHARS = 255


class Kind(StrEnum):
    """The two kinds of job."""

    RENDER = "render"
    TRAIN = "train"


class BurstMode(StrEnum):
    """Whether a job may run on Modal."""

    #: In-house only, however long that takes.
    NEVER = "never"
    #: As the policy says.
    AUTO = "auto"
    #: On Modal at once, within its caps.
    ALWAYS = "always"


def _whole_number(value: object) -> object:
    """Form fields and the Videos API send numbers as strings: "4" is 4, while "4.5", "abc" and True are refused."""
    if isinstance(value, bool):
        raise ValueError("expected a whole number, got a boolean")
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d{1,12}", value.strip()):
        return int(value)
    return value


def _not_blank(value: str) -> str:
    value = value.removeprefix("\ufeff")  # the byte order mark of the file that it came from is no part of it
    if not value.strip():
        raise ValueError("expected some text, got only white space")
    if "\x00" in value:
        raise ValueError("expected text without NUL characters")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError("expected text that can be written as UTF-8") from error
    return value


def _offered_size(value: str) -> str:
    if value not in SIZES:
        raise ValueError(f"expected one of {', '.join(SIZES)}, got {value[:40]!r}")
    return value


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("expected a finite number")
    return value


WholeNumber = Annotated[int, BeforeValidator(_whole_number)]
FiniteNumber = Annotated[float, AfterValidator(_finite)]


#: The rule by which `digest` is made. Raise it when the same request would give another digest than before.
DIGEST_VERSION = 2


def _sha256(fields: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class _Job(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", str_max_length=PROMPT_MAX_CHARS)

    kind: Kind
    tenant: str = Field(
        default="default", pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$", description="Who pays and whose share it is."
    )
    priority: WholeNumber = Field(default=5, ge=0, le=9, description="0 (last) to 9 (first).")
    burst: BurstMode = Field(default=BurstMode.AUTO, description="Whether the job may run on Modal.")
    deadline_s: Annotated[float, AfterValidator(_finite)] | None = Field(
        default=None, ge=DEADLINE_MIN_S, le=DEADLINE_MAX_S, description="Seconds from acceptance to the wanted end."
    )

    def brief(self) -> str | None:
        """The job as a listing shows it, as JSON; None: as it is, for it is short."""
        return None

    def digest(self) -> str:
        """A digest of what was sent: equal digests ask for the same job.

        Fields at their default are left out, so that a field which a later version adds changes no digest of a request
        that does not use it. The digest carries the version of this rule.
        """
        asked = self.model_dump(mode="json", exclude_defaults=True)
        return f"{DIGEST_VERSION}:{_sha256({**asked, 'kind': self.kind})}"

    def first_digest(self) -> str:
        """The digest of version 1, which covers defaults too: records from before version 2 carry it."""
        return _sha256(self.model_dump(mode="json"))


#: Before the id of a train job, as the model of a render: the video is sampled from what that job has trained.
TRAINED_MODEL = "dit:"


class RenderJob(_Job):
    """A request for one MP4."""

    kind: Literal[Kind.RENDER] = Kind.RENDER
    prompt: Annotated[str, AfterValidator(_not_blank)] = Field(
        min_length=1, max_length=PROMPT_MAX_CHARS, description="What the video is about, in words."
    )
    seconds: WholeNumber = Field(default=4, ge=SECONDS_MIN, le=SECONDS_MAX, description="Length of the clip, seconds.")
    size: Annotated[str, AfterValidator(_offered_size)] = Field(
        default="720x1280", description="Width x height in pixels, one of SIZES."
    )
    fps: WholeNumber = Field(default=24, ge=FPS_MIN, le=FPS_MAX, description="Frames per second.")
    seed: WholeNumber = Field(default=0, ge=0, le=2**32 - 1, description="Same prompt, same seed: same video.")
    model: str = Field(default="procedural", min_length=1, max_length=128, description="The engine's name, as asked.")

    def brief(self) -> str | None:
        """With the beginning of its prompt only."""
        if len(self.prompt) <= BRIEF_PROMPT_CHARS:
            return None
        return self.model_copy(update={"prompt": self.prompt[:BRIEF_PROMPT_CHARS]}).model_dump_json()

    @property
    def uses(self) -> str | None:
        """The train job whose model it renders with; None: an engine of ours."""
        return self.model.removeprefix(TRAINED_MODEL) if self.model.startswith(TRAINED_MODEL) else None

    @property
    def width(self) -> int:
        """Width in pixels."""
        return int(self.size.split("x")[0])

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self.size.split("x")[1])


class TrainJob(_Job):
    """A request for a training run that leaves checkpoints.

    The last fields are the engine's own (see docs/training.md); None leaves one to the recipe. The engine's bounds are
    checked before money is spent, here only what can be known without it.
    """

    kind: Literal[Kind.TRAIN] = Kind.TRAIN
    recipe: Literal["image_classifier", "diffusion_transformer"] = Field(description="Which model is trained.")
    dataset: str = Field(
        default="shapes", min_length=1, max_length=1024, description="A folder, tar, s3:// address, or `shapes`."
    )
    steps: WholeNumber = Field(default=1_000, ge=1, le=10_000_000, description="Optimizer steps.")
    batch_size: WholeNumber = Field(default=32, ge=1, le=65_536, description="Examples per optimizer step.")
    learning_rate: Annotated[float, AfterValidator(_finite)] = Field(
        default=1e-3, gt=0, le=10, description="Peak rate."
    )
    checkpoint_every_steps: WholeNumber = Field(default=200, ge=1, le=10_000_000, description="Steps per checkpoint.")
    gpus: WholeNumber | None = Field(
        default=None, ge=1, le=8, description="GPUs of one host; None: as many as the model needs."
    )
    gpu: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9-]{1,32}(:[1-8])?$",
        description="Modal GPU class such as `A100-80GB:4`; None: the cheapest that holds the model.",
    )
    seed: WholeNumber = Field(default=0, ge=0, le=2**32 - 1, description="Same config, same seed: same weights.")
    classifier: str | None = Field(
        default=None, pattern=r"^ftjob_[0-9a-f]{32}$", description="A completed job whose classifier judges samples."
    )
    image_size: WholeNumber | None = Field(default=None, ge=8, le=512, description="Side of an image, pixels.")
    width: WholeNumber | None = Field(default=None, ge=0, le=8_192, description="Width of the model; 0: the recipe's.")
    depth: WholeNumber | None = Field(default=None, ge=0, le=128, description="Depth of the model; 0: the recipe's.")
    heads: WholeNumber | None = Field(default=None, ge=1, le=128, description="Attention heads (transformer).")
    patch_size: WholeNumber | None = Field(default=None, ge=1, le=32, description="Side of a token (transformer).")
    warmup_steps: WholeNumber | None = Field(default=None, ge=0, le=10_000_000, description="Steps of rising rate.")
    grad_accumulation: WholeNumber | None = Field(default=None, ge=1, le=4_096, description="Parts of a batch.")
    eval_every_steps: WholeNumber | None = Field(default=None, ge=0, le=10_000_000, description="0: per checkpoint.")
    eval_examples: WholeNumber | None = Field(default=None, ge=1, le=1_000_000, description="Examples per evaluation.")
    log_every_steps: WholeNumber | None = Field(default=None, ge=1, le=10_000_000, description="Steps per progress.")
    sample_steps: WholeNumber | None = Field(default=None, ge=1, le=1_000, description="Denoising steps.")
    weight_decay: FiniteNumber | None = Field(default=None, ge=0, le=10, description="AdamW's.")
    gradient_clip: FiniteNumber | None = Field(default=None, ge=0, le=1e6, description="Largest norm; 0: no clipping.")
    ema_decay: FiniteNumber | None = Field(default=None, ge=0, lt=1, description="Of the weights' moving average.")
    label_dropout: FiniteNumber | None = Field(default=None, ge=0, le=0.9, description="Share of hidden classes.")
    guidance: FiniteNumber | None = Field(default=None, ge=0, le=100, description="Classifier-free guidance.")
    precision: Literal["auto", "fp32", "bf16", "fp16"] | None = Field(default=None, description="Of the arithmetic.")

    @property
    def uses(self) -> str | None:
        """The train job whose classifier judges its samples; None: none does."""
        return self.classifier


#: Fields of a train job that are not the engine's config.
NOT_IN_TRAIN_CONFIG = frozenset({"kind", "tenant", "priority", "burst", "deadline_s", "gpu", "classifier"})


def speed_key(recipe: str, place: str) -> str:
    """Under which a training speed is learnt: the recipe, and `inhouse` or the Modal GPU class."""
    return f"{recipe}@{place}"


Job = RenderJob | TrainJob


def parse_job(kind: Kind, fields: Mapping[str, Any]) -> Job:
    """Validate what was sent as a job of `kind`.

    Raises:
        pydantic.ValidationError: a field is missing, unknown, or out of its bounds.
    """
    match kind:
        case Kind.RENDER:
            return RenderJob.model_validate(fields)
        case Kind.TRAIN:
            return TrainJob.model_validate(fields)


def read_job(kind: Kind, fields: object) -> Job:
    """Read what was stored as a job of `kind`: a field that only another version knows is left out.

    What callers send is strict (`parse_job`). What is stored was checked when it came in, perhaps by a newer version.

    Raises:
        pydantic.ValidationError: a field is missing or out of its bounds.
    """
    match kind:
        case Kind.RENDER:
            return RenderJob.model_validate(fields, extra="ignore")
        case Kind.TRAIN:
            return TrainJob.model_validate(fields, extra="ignore")


_ID_PREFIXES: Mapping[Kind, str] = {Kind.RENDER: "video_", Kind.TRAIN: "ftjob_"}


def new_job_id(kind: Kind, now_ms: int, entropy: bytes) -> str:
    """An id that sorts by time: `video_` or `ftjob_`, 12 hex digits of milliseconds, 20 of randomness (10 bytes)."""
    return f"{_ID_PREFIXES[kind]}{now_ms:012x}{entropy[:10].hex()}"


def kind_of(job_id: str) -> Kind:
    """The kind of job that an id of ours stands for; of a foreign one, a render."""
    return next((kind for kind, prefix in _ID_PREFIXES.items() if job_id.startswith(prefix)), Kind.RENDER)


@dataclass(frozen=True)
class Artifact:
    """The published result of a job, in S3."""

    bucket: str
    key: str
    thumbnail_key: str | None
    size_bytes: int
    sha256: str
    content_type: str = "video/mp4"


@dataclass(frozen=True)
class JobRecord:
    """One job as the ledger holds it at one instant. Times are milliseconds since 1970 by Redis's clock."""

    id: str
    kind: Kind
    tenant: str
    state: State
    priority: int
    burst: BurstMode
    created_ms: int
    changed_ms: int
    #: The newest attempt's number: its fencing token. 0: nothing was placed yet.
    attempt: int = 0
    pool: Pool | None = None
    gpu: str | None = None
    worker: str | None = None
    call_id: str | None = None
    #: 0 to 100.
    progress: int = 0
    deadline_ms: int | None = None
    started_ms: int | None = None
    finished_ms: int | None = None
    held_reason: str | None = None
    #: The Modal class on which its newest out-of-memory failure was; the next attempt wants a larger one.
    outgrown_gpu: str | None = None
    #: Which memory ran out in-house, of the GPU (`cuda`) or of its `host`; None: none did.
    outgrown_inhouse: str | None = None
    #: Modal classes of which no GPU came for this job.
    exhausted_gpus: tuple[str, ...] = ()
    error_code: str | None = None
    error_message: str | None = None
    cost_usd_micros: int = 0
    artifact: Artifact | None = None
    spec: str = "{}"
    #: The trace that it came with (W3C Trace Context).
    traceparent: str | None = None
    #: `spec` holds only the beginning of the prompt, as a listing shows it.
    is_brief: bool = False

    @property
    def status(self) -> str:
        """What the outside sees: queued, in_progress, completed, failed or cancelled."""
        return PUBLIC_STATUS[self.state]

    @property
    def is_terminal(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in TERMINAL

    @property
    def job(self) -> Job:
        """What was asked for.

        Raises:
            RecordUnreadable: what is stored is no job that this version knows.
        """
        try:
            return read_job(self.kind, json.loads(self.spec))
        except (ValueError, RecursionError) as error:
            why = " ".join(str(error).split())[:300]
            raise RecordUnreadable(self.id, f"the spec is no job of this kind: {why}") from error

    def log_context(self) -> dict[str, object]:
        """What every log line about this job carries."""
        return {"job_id": self.id, "attempt": self.attempt, "kind": str(self.kind)}


def record_from_fields(fields: Mapping[str, str]) -> JobRecord:
    """Read a job's hash.

    Raises:
        KeyError, ValueError: the hash is not one that this version wrote.
    """

    def text(name: str) -> str | None:
        return fields.get(name) or None

    def whole(name: str) -> int | None:
        value = fields.get(name)
        return int(float(value)) if value else None

    artifact = text("artifact")
    pool = text("pool")
    return JobRecord(
        id=fields["id"],
        kind=Kind(fields["kind"]),
        tenant=fields["tenant"],
        state=State(fields["state"]),
        priority=int(fields["priority"]),
        burst=BurstMode(fields["burst"]),
        created_ms=int(fields["created_ms"]),
        changed_ms=int(fields["changed_ms"]),
        attempt=int(fields.get("attempt", "0")),
        pool=Pool(pool) if pool else None,
        gpu=text("gpu"),
        worker=text("worker"),
        call_id=text("call_id"),
        progress=whole("progress") or 0,
        deadline_ms=whole("deadline_ms"),
        started_ms=whole("started_ms"),
        finished_ms=whole("finished_ms"),
        held_reason=text("held_reason"),
        outgrown_gpu=text("outgrown_gpu"),
        outgrown_inhouse=text("outgrown_inhouse"),
        exhausted_gpus=tuple((text("exhausted_gpus") or "").split()),
        error_code=text("error_code"),
        error_message=text("error_message"),
        cost_usd_micros=whole("cost_usd_micros") or 0,
        artifact=Artifact(**json.loads(artifact)) if artifact else None,
        spec=fields["spec"],
        is_brief=fields.get("brief") is not None and fields["spec"] == fields["brief"],
        traceparent=text("traceparent"),
    )
