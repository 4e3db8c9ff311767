"""What runs on Modal: the engines in Modal's clothes, and the one catalogue of GPU classes.

What lives here
    gpus       the catalogue: VRAM, FP8 ability and price of every class; pure, imports nothing of Modal
    envelope   the shape in which a remote method answers: a value or a typed error, never a raised exception
    announce   how a call says that it has begun, so that a lost one is found
    hints      what a call says of itself on its way: started, progress, done
    signing    signatures of what a call says of its attempt; pure
    wire       checks for what somebody else wrote: types, bounds, valid text; pure
    uploads    how a container puts its files straight into S3, by addresses signed for it
    names      what is deployed under which name
    images     the container images, exactly pinned
    renderer   the deployed app that renders: `modal deploy -m modal_apps.renderer`
    trainer    the deployed app that trains: `modal deploy -m modal_apps.trainer`; a class for each GPU class
    training_* what trainer is made of: the request, the run in its thread, its rows, its errors, the choice of a class
    by_hand    `modal run -m modal_apps.trainer`
    container  what a container knows of itself, and how it answers
    gpu_table  docs/gpu-classes.md, made from the catalogue

What must hold
    A container ships this package and `engines` only, so nothing here imports Celery, Redis, S3 or a room of ours
    other than `engines`. No user exception crosses the wire.

Who may come in
    workers (gpus, envelope, names), and Modal itself.
"""
