"""The names under which things are deployed. Whoever calls them uses these, so that both sides agree."""

#: The app that renders.
RENDERER_APP = "overspill-renderer"
#: Its class; the method `render` takes a request and returns an envelope.
RENDERER_CLASS = "Renderer"

#: The app that trains.
TRAINER_APP = "overspill-trainer"
#: Its class without a GPU of its own choice; every GPU class has one more, named by `GpuClass.alias`. The methods
#: `train`, `evaluate` and `smoke` take a request and return an envelope.
TRAINING_CLASS = "TrainingSession"
#: The volume of checkpoints: `{recipe}/{YYYY-MM-DD}/{job}/step-N/`.
CHECKPOINTS_VOLUME = "overspill-train-checkpoints"
#: The volume of prepared datasets and of the caches of torch and the hub.
CACHE_VOLUME = "overspill-train-cache"
