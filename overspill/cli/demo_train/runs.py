"""What the demo trains and renders."""

from typing import Any

#: The classifier, on our own GPU (here: a core of this machine).
CLASSIFIER: dict[str, Any] = {
    "recipe": "image_classifier", "steps": 120, "batch_size": 64, "learning_rate": 2e-3, "checkpoint_every_steps": 40,
    "eval_every_steps": 120, "burst": "never", "seed": 1,
}  # fmt: skip
#: The transformer, on Modal (here: a local one), where its container is killed once.
TRANSFORMER: dict[str, Any] = {
    "recipe": "diffusion_transformer", "steps": 1400, "batch_size": 32, "learning_rate": 2e-3,
    "checkpoint_every_steps": 100, "eval_every_steps": 1400, "burst": "always", "seed": 1,
}  # fmt: skip
#: Samples of the transformer that the classifier judges.
SAMPLES = 240
#: What is rendered with the transformer.
PROMPT = "a red circle, a blue square, a green triangle"
SECONDS, SIZE, FPS = 4, "320x180", 12
SETTINGS = {
    "OVERSPILL_LEASE_S": "6",
    "OVERSPILL_POLL_FIRST_S": "0.5",
    "OVERSPILL_POLL_MAX_S": "1",
    "OVERSPILL_POLL_HINTED_S": "1",
    "OVERSPILL_TRAIN_MIRROR_EVERY_S": "1",
    # It is shown on Modal until its end.
    "OVERSPILL_TRAIN_COMES_HOME": "0",
    "OVERSPILL_MODAL_SCALEDOWN_WINDOW_S": "2",
    "OVERSPILL_TRAIN_THREADS": "1",
    "OVERSPILL_LOG_FORMAT": "json",
}
MODAL_FLAGS = ("--max-containers", "1")
#: What must be reached: the issue's own bounds.
ACCURACY, RECOGNISED = 0.97, 0.90
