"""What the placement of train jobs needs to know, from the settings and from what was learnt."""

from collections.abc import Mapping

from infra.settings import Settings
from modal_apps.gpus import parse_resources
from workers.placement.training import TrainNeeds, TrainPolicy
from workers.training.sizing import EngineSizes

#: Guess of a run's speed before anything was learnt, seconds per example.
SECONDS_PER_EXAMPLE = 0.002
#: A waiting train job leaves for Modal this long before its slack is gone, seconds.
SLACK_MARGIN_S = 60.0


def train_policy(settings: Settings, speeds: Mapping[str, float]) -> TrainPolicy:
    """The policy of train jobs; `speeds` is what the ledger has learnt."""
    resources = parse_resources(settings.train.modal_resources)
    return TrainPolicy(
        TrainNeeds(
            sizes=EngineSizes(settings.train.modal_classes, resources, settings.train.modal_data_bucket),
            enabled=settings.train.engine != "off",
            resources=resources,
            prices=settings.modal.prices,
            inhouse_vram_gib=settings.train.inhouse_vram_gib,
            inhouse_gpus=None if settings.train.device == "cpu" else settings.train.inhouse_gpus,
            inhouse_usd_per_hour=settings.attempts.inhouse_usd_per_hour,
            guess_s_per_example=SECONDS_PER_EXAMPLE,
            speeds=speeds,
            startup_s=settings.train.startup_s,
            idle_s=settings.modal.scaledown_window_s,
            segment_s=settings.train.segment_s,
            margin_s=SLACK_MARGIN_S,
            comes_home=settings.train.comes_home,
        )
    )
