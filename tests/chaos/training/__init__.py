"""One training run, struck again and again on the whole stack: `python -m tests.chaos.training --seed 7`.

It begins on Modal, in segments of some seconds, and migrates back on its way. Five times it is killed without warning
at a random moment, wherever it is then: a container, or the in-house worker's pool process. Once its container is
preempted (SIGINT and a grace), once its in-house worker is asked to stop (SIGTERM).

    told      what the run has told, in-house and in containers, and what strikes can be read from it (pure)
    strikes   who strikes, and how
    story     the run from its submission to its end
    verdict   what has to hold, and the last line (pure)

What must hold: the weights are, byte for byte, those of a run that nothing struck; a kill costs at most one checkpoint
interval and an orderly end nothing; each cause is counted apart.
"""
