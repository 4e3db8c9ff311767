"""What the placement of train jobs needs to know, from the settings and from what was learnt."""

from collections.abc import Mapping

from infra.settings import Settings
from modal_apps.gpus import parse_resources
from workers.placement.training import TrainNeeds, TrainPolicy
from workers.training.sizing import EngineSizes


def train_policy(settings: Settings, speeds: Mapping[str, float]) -> TrainPolicy:
    """The policy of train jobs; `speeds` is what the ledger has learnt."""
    resources = parse_resources(settings.modal_train_resources)
    return TrainPolicy(
        TrainNeeds(
            sizes=EngineSizes(settings.modal_train_classes, resources, settings.modal_data_bucket),
            enabled=settings.train_engine != "off",
            resources=resources,
            prices=settings.prices,
            inhouse_vram_gib=settings.train_inhouse_vram_gib,
            inhouse_gpus=None if settings.train_device == "cpu" else settings.train_inhouse_gpus,
            inhouse_usd_per_hour=settings.inhouse_usd_per_hour,
            guess_s_per_example=settings.train_seconds_per_example,
            speeds=speeds,
            startup_s=settings.train_startup_s,
            idle_s=settings.modal_scaledown_window_s,
            segment_s=settings.train_segment_s,
            margin_s=settings.train_slack_margin_s,
            comes_home=settings.train_comes_home,
        )
    )
