"""What every process of the control plane needs, whatever its role: settings, logs, traces, S3, Celery's broker.

What lives here
    settings/                                        every setting, declared once, in groups
    logs, tracing                                    what a process tells about itself
    artifacts, mp4                                   objects in S3; whether one is the video that was asked for
    broker, celery_config, nudging                   Celery on Redis as we use it
    limits, api_keys                                 what the environment says about limits; whose key it is
    background, retrying                             a service in a thread; an operation that is tried again

What must hold
    Nothing here decides about a job. A module here may be imported by any role.

Who may come in
    workers, tasks, api, monitoring and the CLI. It imports ledger and modal_apps only.
"""
