"""The `dit` engine: frames denoised one after the other by a diffusion transformer that `engines.train` has trained.

One way through: `model` finds the checkpoint; `script` reads the prompt's classes and says, for each frame, which
mixture of them and which mixture of noise it shows; `film` denoises the frames and widens them to the wanted shape;
`engine` runs them through the encoder. Frames are alike because neighbours begin from neighbouring noise and want
neighbouring classes, and denoising is a smooth function of both.

What must hold: every frame is a pure function of checkpoint, request and index; without a checkpoint the error says how
to name one. Needs torch. Who comes in: the registry, by `engine.py` only.
"""
