"""Commands in running containers: `modal container exec`. `commands` runs one; `router` is the service."""
