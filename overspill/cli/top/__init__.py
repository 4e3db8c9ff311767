"""`overspill top`: the system as it stands, drawn anew every second.

What lives here
    snapshot   what is read at one instant; the ledger being away is a snapshot too
    picture    how it looks, in whatever room the terminal has
    command    the loop: the alternate screen on a terminal, one plain frame elsewhere

What must hold
    It only looks. Nothing that happens to the ledger ends it but Ctrl-C, and the terminal is given back as it was.

Who may come in
    The command line.
"""

from overspill.cli.top.command import top

__all__ = ["top"]
