"""How long a training attempt may take in all, from the run's own size."""

from engines.train.errors import TrainError
from ledger import LedgerError
from ledger.models import JobRecord, speed_key
from workers.placement.training import INHOUSE
from workers.requests import NoEngine
from workers.resources import Resources
from workers.training.configs import train_config, train_job

#: A run may take so many times what is foreseen of it: it may share its host, and evaluates and saves besides.
WALL_CLOCK_FACTOR = 10.0
#: And so long at least, seconds: the speed that was learnt of its recipe may be that of a smaller model.
LEAST_WALL_CLOCK_S = 86_400.0


def train_wall_clock_s(resources: Resources, record: JobRecord) -> float | None:
    """Seconds; None: nothing was learnt of its recipe in-house yet, or the ledger does not say."""
    try:
        config = train_config(train_job(record))
        speed = resources.ledger.placement.training_speeds().get(speed_key(config.recipe, INHOUSE))
    except (TrainError, LedgerError, NoEngine, ValueError):
        return None  # what is wrong with the job is said when it is run
    if speed is None:
        return None
    foreseen_s = speed * config.batch_size * config.steps
    return max(LEAST_WALL_CLOCK_S, resources.settings.attempts.start_timeout_s + WALL_CLOCK_FACTOR * foreseen_s)
