"""The operator's hand: how the money stands, what runs on Modal, whether anything spills, what is kept warm.

What lives here
    budget     `overspill budget`: every cap, what is spent, set aside and left; `budget true-up`: Modal's own bill
    cost       `overspill cost`: what a month cost, by tenant, kind, class or day
    spill      `overspill spill auto|on|off`
    calls      `overspill calls`: what is in flight on Modal
    prewarm    `overspill prewarm`: warm containers for a while
    said       who acts, and how long `2h` is

What must hold
    Whatever changes something is recorded in the ledger as an event, with who and why. What people read is said in
    dollars, what programs read in whole micro-dollars.

Who may come in
    The command line.
"""
