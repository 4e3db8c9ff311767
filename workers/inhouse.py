"""In-house work: what a GPU worker does with one nudge. Here the pipeline of an attempt meets the kinds of job."""

from ledger import Kind
from workers.attempt.runner import Executor, RunReport, run_attempt
from workers.attempt.slots import SlotTable, slot_table
from workers.resources import Resources


def run_next(
    resources: Resources, kind: Kind, *, worker: str, nudge_id: str = "", table: SlotTable = slot_table
) -> RunReport:
    """Run the in-house attempt of a kind that comes next, if one waits; see `run_attempt`."""
    return run_attempt(resources, kind, executor_of(kind), worker=worker, nudge_id=nudge_id, table=table)


def executor_of(kind: Kind) -> Executor:
    """What runs jobs of a kind; each kind imports only what it needs."""
    match kind:
        case Kind.RENDER:
            from workers.rendering import RenderExecutor  # noqa: PLC0415 - imports the render engines

            return RenderExecutor()
        case Kind.TRAIN:
            from workers.training.execute import TrainExecutor  # noqa: PLC0415 - the same, of training

            return TrainExecutor()
