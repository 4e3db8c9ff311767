"""The `procedural` engine: the words of the prompt set in motion over a scene that the words call up. CPU only.

One way through: `lexicon` reads tags out of the prompt (setting, time of day, weather, pace, colours, subjects);
`palette` makes colours of them; `scene` composes layers (`sky`, `ground`, `silk`, `particles`, `subjects`, all built
from `fields`) and paints a small picture for a moment in time; `typography` cuts the prompt into cards and lays them
out with `fonts`; `titles` draws the cards over the enlarged picture; `engine` runs the frames through the encoder.

What must hold: every picture is a pure function of the request and the frame index; all chance comes from a generator
seeded by prompt and seed; no prompt, in any script, can make it crash. Who comes in: the registry, by `engine.py` only.
"""
