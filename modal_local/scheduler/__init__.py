"""Which container runs what, when one starts, and when one stops.

`autoscale` and `placement` decide and are pure: what they are told is all that they know. `pool` holds what one
function (or one variant of it) has waiting and running. `engine` acts: it hands inputs out, takes outputs in, and
starts and stops containers as decided; `deaths` sees to what a dead one had in hand; `parents` knows which containers
only wait for others. An input leaves here only by an output: after any failure it is queued again.
"""
