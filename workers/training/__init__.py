"""Train jobs: from what was asked for to checkpoints in S3, in-house or on Modal, and from one pool to the other.

What lives here
    configs     a job in the ledger -> what the engine takes, and which Modal class holds it
    store       checkpoints in S3: `train/{job}/{attempt}/step-N/`, whole once `metadata.json` is there
    datasets    a dataset that a job may name -> a folder on this host, fetched from S3 where it lies there
    inhouse     one in-house attempt under a lease
    volume      the volume of checkpoints on Modal, through the public SDK
    scratch     what earlier runs have left on this host, removed by age
    wall_clock  how long an in-house attempt may take, from the run's own size
    onmodal     one attempt on Modal: what is asked for, the mirror of its checkpoints, its end

What must hold
    A checkpoint in S3 is whole or is not there, and no two attempts write the same key. Every attempt begins from the
    newest whole checkpoint of the job, wherever it was made, so a kill costs at most one interval. What can be known to
    be wrong is said before money is spent.

Who may come in
    workers.inhouse, workers.dispatch, workers.overflow, workers.maintenance and workers.steps. torch is
    imported where the engine runs, and nowhere else.
"""
