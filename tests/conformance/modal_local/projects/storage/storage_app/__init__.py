"""An app that works on volumes, secrets, queues and dicts from inside of containers."""
