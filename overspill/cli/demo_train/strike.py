"""The preemption: the container in which a job trains is killed, and by SIGKILL at that: without any grace."""

from modal_local.admin_client import AdminClient


def kill_container(admin_url: str, alias: str) -> str | None:
    """Kill a busy container of a training class of the local Modal; returns its id, None: there is none."""
    admin = AdminClient(admin_url)
    busy = [
        row["task_id"]
        for row in admin.containers(live=True)
        if row["running_inputs"] and str(row["function_tag"]).startswith(f"{alias}.")
    ]
    if not busy:
        return None
    admin.inject("kill", task_id=busy[0])
    return str(busy[0])
