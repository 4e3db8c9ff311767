"""Train engine: a `TrainConfig` and a folder in, checkpoints with their measurements out.

`config.py`, `contract.py` and `errors.py` hold the words that both sides share; they, `checkpoints.py` and
`allocator.py` import the standard library only, so that a control plane without torch can refuse a bad config, find a
checkpoint and size a GPU.
`engine.py` is the way in: it makes `data/` (any source becomes one prepared set), `models/` and `recipes/` (what a loss
and an evaluation are) meet in `loop.py`. `rank.py` and `torchrun.py` are the same run on several processes.
`smoke.py` and `evaluate.py` are the two other things one asks of a trainer, `__main__.py` all three by hand.

What must hold: the batch of step n, its noise and its learning rate are functions of the config and n alone, so that
a run that was killed and resumed ends with the weights of one that was not; a checkpoint is whole or is not there; a
failure leaves the last whole one. Who comes in: `workers` (in-house), `modal_apps` (in a container), and
`engines.render.dit`, which reads checkpoints.
"""
