"""What a job does: `render` turns a request into an MP4, `train` turns a config into checkpoints.

An engine is a pure worker: a request, a progress callback and a cancel check go in; bytes and measurements come out.
In-house GPU workers and Modal containers run this same code, so nothing here may know Celery, Redis, Modal or S3, read
settings, or keep state between jobs. Who comes in: `workers` (in-house) and `modal_apps` (in a container), through
`engines.render.registry`. What must hold: same request, same result; a cancelled job stops at the next frame or step;
memory is bounded by the size of a frame, never by the length of the job.
"""
