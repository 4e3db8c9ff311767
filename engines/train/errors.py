"""Everything that may go wrong in a training run, as one small tree. Each error carries its data and says what to do.

The errors cross process borders (a Modal envelope, a pickle, torchrun's ranks), so each can be pickled, and gives its
data as JSON types by `details()` beside a stable `code`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

_MAX_SHOWN_CHARS = 200
_NOT_BROUGHT = "an s3:// address must be brought into a local folder by the caller, and it was not"

DatasetFlaw = Literal[
    "missing",
    "empty",
    "one_class",
    "bad_image",
    "bad_archive",
    "unresolved",
    "too_small",
    "special_file",
    "too_large",
    "layout",
    "left_out",
    "not_permitted",
    "bad_name",
]
CheckpointFlaw = Literal["none", "exists", "torn", "other_model", "unwritable"]
WhereMemoryRanOut = Literal["cuda", "host"]


class TrainError(Exception):
    """Root of the tree. `code` is stable and meant for machines; the text is for people."""

    code: ClassVar[str] = "train_error"
    #: Whether the same config on the same machine may succeed when tried again.
    retryable: ClassVar[bool] = False

    def details(self) -> dict[str, object]:
        """The error's data as JSON types."""
        return {}

    def to_wire(self) -> dict[str, object]:
        """The error as JSON types; `error_from_wire` is the inverse."""
        return {"code": self.code, "arguments": [_plain(argument) for argument in self.args]}

    def __str__(self) -> str:
        return self.sentence()

    def sentence(self) -> str:
        """What was expected, what came, what to do."""
        return "The training failed for a reason that has no name yet; see the cause."


class InvalidTrainConfig(TrainError):
    """A field of the config is missing, unknown, of the wrong type or out of bounds. Trying again cannot help."""

    code = "invalid_train_config"

    def __init__(self, field: str, got: object, expected: str) -> None:
        self.field = field
        self.got = _shown(repr(got))
        self.expected = expected
        super().__init__(field, got, expected)

    def details(self) -> dict[str, object]:
        """Field, what came (shortened) and what was expected."""
        return {"field": self.field, "got": self.got, "expected": self.expected}

    def sentence(self) -> str:
        """What was expected, what came, what to do."""
        return f"{self.field}: expected {self.expected}, got {self.got}. Correct the field and submit again."


class TorchMissing(TrainError):
    """This installation has no torch. A deployment that trains installs the extra `torch`."""

    code = "torch_missing"

    def __init__(self, cause: str) -> None:
        self.cause = cause
        super().__init__(cause)

    def details(self) -> dict[str, object]:
        """The import error's own message."""
        return {"cause": self.cause}

    def sentence(self) -> str:
        """What was expected, what came, what to do."""
        return f"Training needs PyTorch, and it cannot be imported here: {self.cause}. Install `overspill[torch]`."


class DatasetProblem(TrainError):
    """The dataset cannot be trained on; `flaw` says why, `name` which file or class it is about."""

    code = "dataset_problem"

    def __init__(self, flaw: DatasetFlaw, dataset: str, name: str = "", cause: str = "") -> None:
        self.flaw = flaw
        self.dataset = _shown(dataset)
        self.name = _shown(name)
        self.cause = _shown(cause)
        super().__init__(flaw, dataset, name, cause)

    def details(self) -> dict[str, object]:
        """Which flaw, of which dataset, in which file or class, and the decoder's own words."""
        return {"flaw": self.flaw, "dataset": self.dataset, "name": self.name, "cause": self.cause}

    def sentence(self) -> str:
        """What was expected, what came, what to do."""
        why = f" ({self.cause})" if self.cause else ""
        what = {
            "missing": f"expected a folder, a tar or a zip, and there is none{why}. Check the path or address",
            "empty": "expected images in one folder per class, found none. Put them there",
            "one_class": f"expected two or more classes, found only {self.name!r}. Add images of another class",
            "bad_image": f"the image {self.name!r} cannot be read ({self.cause}). Replace or remove it",
            "bad_archive": f"the archive cannot be read ({self.cause}). Upload it again",
            "unresolved": f"it cannot be read where it would be trained on: {self.cause or _NOT_BROUGHT}",
            "too_small": f"the class {self.name!r} has too few images ({self.cause}). Add some",
            "special_file": f"expected a folder, a tar or a zip{why}. Name one of these",
            "too_large": f"it is larger than a data set may be{why}. Make it smaller, or have the bound raised",
            "layout": f"it is not clear which folders are the classes{why}. Put one folder per class side by side",
            "left_out": f"of {self.name!r} nothing can be read{why}. Convert its files, or remove it",
            "not_permitted": f"data sets may not be read from there{why}. Move it to where they may",
            "bad_name": f"the object {self.name!r} cannot be a file of a folder{why}. Rename it",
        }[self.flaw]
        return f"dataset {self.dataset}: {what}."


class DatasetAway(TrainError):
    """The file system (a bucket that is mounted) did not give the data, and may another time: its contents are fine."""

    code = "dataset_away"
    retryable = True

    def __init__(self, dataset: str, cause: str) -> None:
        self.dataset = _shown(dataset)
        self.cause = _shown(cause)
        super().__init__(dataset, cause)

    def details(self) -> dict[str, object]:
        """Which data set, and the file system's own words."""
        return {"dataset": self.dataset, "cause": self.cause}

    def sentence(self) -> str:
        """What was expected, what came, what to do."""
        return f"dataset {self.dataset}: expected to read it, got again and again: {self.cause}. Try again later."


class CheckpointProblem(TrainError):
    """A checkpoint that was named or found cannot be used."""

    code = "checkpoint_problem"

    def __init__(self, flaw: CheckpointFlaw, path: str, cause: str = "") -> None:
        self.flaw = flaw
        self.path = path
        self.cause = _shown(cause)
        super().__init__(flaw, path, cause)

    def details(self) -> dict[str, object]:
        """Which flaw, where, and what exactly was found."""
        return {"flaw": self.flaw, "path": self.path, "cause": self.cause}

    def sentence(self) -> str:
        """What was expected, what came, what to do."""
        what = {
            "none": "expected a checkpoint, found none. Train one first, or name another folder",
            "exists": "the folder already holds checkpoints. Say that the run resumes, or name another folder",
            "torn": f"the checkpoint is not whole ({self.cause}). Use an older one, or copy it again",
            "other_model": f"the checkpoint is from another model ({self.cause}). Use a folder of its own per model",
            "unwritable": f"the checkpoint cannot be written ({self.cause}). Check the volume's mount and its rights",
        }[self.flaw]
        return f"{self.path}: {what}."


class VolumeFull(TrainError):
    """No space for a checkpoint or the prepared data. The last good checkpoint is untouched: `last_good` names it."""

    code = "volume_full"

    def __init__(self, path: str, needed_bytes: int, free_bytes: int, last_good: str | None) -> None:
        self.path = path
        self.needed_bytes = needed_bytes
        self.free_bytes = free_bytes
        self.last_good = last_good
        super().__init__(path, needed_bytes, free_bytes, last_good)

    def details(self) -> dict[str, object]:
        """Where, how much was needed, how much was free, and what remains to resume from."""
        return {
            "path": self.path,
            "needed_bytes": self.needed_bytes,
            "free_bytes": self.free_bytes,
            "last_good": self.last_good,
        }

    def sentence(self) -> str:
        """What was expected, what came, what to do."""
        kept = f"the last good checkpoint is {self.last_good}" if self.last_good else "there is no checkpoint yet"
        return (
            f"{self.path}: expected {self.needed_bytes} bytes of space, {self.free_bytes} are free; {kept}. "
            "Free some space, then submit again: the run resumes."
        )


class OutOfMemory(TrainError):
    """Memory ran out. A next attempt needs a larger GPU class (`cuda`) or a host with more memory (`host`)."""

    code = "train_out_of_memory"

    def __init__(self, where: WhereMemoryRanOut, step: int, last_good: str | None) -> None:
        self.where = where
        self.step = step
        self.last_good = last_good
        super().__init__(where, step, last_good)

    def details(self) -> dict[str, object]:
        """Which memory it was, at which step, and what remains to resume from."""
        return {"where": self.where, "step": self.step, "last_good": self.last_good}

    def sentence(self) -> str:
        """What happened, what to do."""
        memory, remedy = {
            "cuda": ("GPU memory", "a GPU class with more memory, or raise grad_accumulation"),
            "host": ("The host's memory", "a host with more memory, or raise grad_accumulation"),
        }[self.where]
        kept = f" It resumes from {self.last_good}." if self.last_good else ""
        return f"{memory} ran out at step {self.step}. Try again on {remedy}.{kept}"


class DoesNotFit(TrainError):
    """No GPU class of the catalogue can hold the model; known before anything is started."""

    code = "does_not_fit"

    def __init__(self, needed_gib: float, largest: str, largest_gib: float) -> None:
        self.needed_gib = needed_gib
        self.largest = largest
        self.largest_gib = largest_gib
        super().__init__(needed_gib, largest, largest_gib)

    def details(self) -> dict[str, object]:
        """What each GPU would need, and the largest class there is."""
        return {"needed_gib": self.needed_gib, "largest": self.largest, "largest_gib": self.largest_gib}

    def sentence(self) -> str:
        """What was expected, what came, what to do."""
        return (
            f"expected a model that fits {self.largest or 'no class at all'} ({self.largest_gib:g} GiB), "
            f"this one needs {self.needed_gib:.1f} GiB on each. Use more gpus, a smaller batch_size per step "
            "(grad_accumulation), or a smaller model."
        )


class TrainingDiverged(TrainError):
    """The loss is no finite number any more. The last good checkpoint is from before."""

    code = "training_diverged"

    def __init__(self, step: int, last_good: str | None) -> None:
        self.step = step
        self.last_good = last_good
        super().__init__(step, last_good)

    def details(self) -> dict[str, object]:
        """Where it was noticed, and what remains."""
        return {"step": self.step, "last_good": self.last_good}

    def sentence(self) -> str:
        """What happened, what to do."""
        return f"expected a finite loss, got none at step {self.step}. Lower learning_rate or raise warmup_steps."


class TrainCancelled(TrainError):
    """The cancel check asked for a stop. Not a failure: whole checkpoints stay, nothing half-written does."""

    code = "train_cancelled"

    def __init__(self, steps_done: int, steps_total: int) -> None:
        self.steps_done = steps_done
        self.steps_total = steps_total
        super().__init__(steps_done, steps_total)

    def details(self) -> dict[str, object]:
        """How far it had come."""
        return {"steps_done": self.steps_done, "steps_total": self.steps_total}

    def sentence(self) -> str:
        """What happened."""
        return f"The training was cancelled after {self.steps_done} of {self.steps_total} steps, as asked."


class RankFailed(TrainError):
    """One process of a run on several GPUs died without saying why (killed, a crash in the driver)."""

    code = "rank_failed"
    retryable = True

    def __init__(self, exit_code: int, last_words: str) -> None:
        self.exit_code = exit_code
        self.last_words = last_words[-_MAX_SHOWN_CHARS:]
        super().__init__(exit_code, last_words)

    def details(self) -> dict[str, object]:
        """Exit code of torchrun and the end of its error output."""
        return {"exit_code": self.exit_code, "last_words": self.last_words}

    def sentence(self) -> str:
        """What happened, what to do."""
        return f"A rank ended with {self.exit_code}: {self.last_words!r}. Try again: the run resumes."


def _shown(text: str) -> str:
    text = text.encode(errors="backslashreplace").decode()  # names of files need be no text at all
    return text if len(text) <= _MAX_SHOWN_CHARS else f"{text[:_MAX_SHOWN_CHARS]}..."


def _plain(argument: object) -> object:
    return argument if argument is None or isinstance(argument, str | int | float) else repr(argument)


def error_from_wire(wire: Mapping[str, Any]) -> TrainError:
    """The error that `to_wire` described; the root of the tree where the code is not known here."""
    found = next((kind for kind in TrainError.__subclasses__() if kind.code == wire["code"]), None)
    return found(*wire["arguments"]) if found else TrainError(str(wire["code"]))
