"""Functions that run by the clock. `times` says when a schedule is due and is pure; `service` waits and calls."""
