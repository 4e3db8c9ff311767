"""Who strikes: whatever runs the job at that moment, by a signal that it cannot or can hear."""

import psutil

from modal_local.admin_client import AdminClient, AdminError
from overspill.dev.supervisor import Supervisor


class Striker:
    """Strikes a stack's one in-house worker, and the containers of its local Modal."""

    def __init__(self, supervisor: Supervisor, admin_url: str) -> None:
        self._supervisor = supervisor
        self._admin = AdminClient(admin_url)

    def hold_worker(self) -> None:
        """SIGSTOP to the in-house worker and all that it runs: as if its host were away."""
        for process in self._worker():
            process.suspend()

    def release_worker(self) -> None:
        """It is back."""
        for process in self._worker():
            process.resume()

    def _worker(self) -> list[psutil.Process]:
        main = psutil.Process(self._supervisor["gpu.1"].pid)
        return [main, *main.children(recursive=True)]

    def kill_pool_process(self) -> bool:
        """SIGKILL to the process in which the in-house worker trains."""
        _, *children = self._worker()
        for child in children:
            child.kill()
        return bool(children)

    def ask_worker_to_stop(self) -> bool:
        """SIGTERM to the in-house worker, as a deploy does it; its supervisor starts a new one."""
        self._supervisor["gpu.1"].process.terminate()
        return True

    def strike_container(self, fault: str) -> bool:
        """`kill` (SIGKILL) or `preempt` (SIGINT and a grace) the container that trains. False: there is none."""
        busy = [
            row["task_id"]
            for row in self._admin.containers(live=True)
            if row["running_inputs"] and str(row["function_tag"]).startswith("TrainingSession")
        ]
        try:
            return bool(busy) and bool(self._admin.inject(fault, task_id=busy[0]))
        except AdminError:
            return False  # it has just ended
