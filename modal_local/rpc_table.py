"""The table of RPCs in docs/modal_local.md. `python -m modal_local.rpc_table` writes it anew."""

import asyncio
import re
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from modal_local.left_out import LEFT_OUT
from modal_local.rpc import method_names
from modal_local.server import ModalLocal
from modal_local.settings import Settings

BEGIN: Final = "<!-- the table of RPCs begins; python -m modal_local.rpc_table writes it -->"
END: Final = "<!-- the table of RPCs ends -->"
#: RPCs that are served since a later version than the first.
SINCE: Final = dict.fromkeys(
    (
        *("AppRollback", "AppRollover", "FunctionCallCount", "FunctionCallFetch", "FunctionCallGetDataIn"),
        *(
            "FunctionCallGetInfo",
            "FunctionGetMetrics",
            "FunctionGetTimeRangeStats",
            "MetricsGetInfo",
            "TaskGetCommandRouterAccess",
        ),
    ),
    "unreleased",
)
#: What differs from the service, where something does.
DIFFERS: Final[Mapping[str, str]] = {
    "AppFetchLogs": "kept in memory; a line belongs to the calls in hand when it was read",
    "AppRollback": "to the last 20 deployments",
    "BlobCreate": "single uploads below 1 GiB; the URLs are of this machine",
    "ContainerCheckpoint": "nothing is frozen",
    "FunctionBindParams": "limits as in `limits.py`",
    "FunctionCallCancel": "`terminate_containers` is refused with `--no-terminate-containers` only",
    "FunctionCreate": "limits as in `limits.py`; of several GPU types, the first one",
    "FunctionGetDynamicConcurrency": "the maximum while there is a backlog, else the target",
    "FunctionGetMetrics": "groups `calls` and `containers`, with names of its own",
    "FunctionGetTimeRangeStats": "no figures of CPU, memory and GPU",
    "FunctionRetryInputs": "refused: retries are the server's part",
    "ImageGetOrCreate": "recorded, not built",
    "ImageJoinStreaming": "ends at once",
    "WorkspaceBillingReport": "prices as published, or as a file says",
}


def rpc_table(served: Collection[str]) -> str:
    """The rows, one for each RPC of the installed protocol."""
    rows = ["| RPC | served | since | what differs |", "| --- | --- | --- | --- |"]
    for name in sorted(method_names()):
        if name in served:
            rows.append(f"| {name} | yes | {SINCE.get(name, '0.1')} | {DIFFERS.get(name, '')} |")
            continue
        subject = next((subject for subject, names in LEFT_OUT.items() if re.fullmatch(names, name)), "")
        rows.append(f"| {name} | no | | {subject and f'left out: {subject}'} |")
    return "\n".join(rows)


def with_table(page: str, table: str) -> str:
    """The page with its table replaced."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n{table}\n{END}{rest.partition(END)[2]}"


def served_rpcs() -> frozenset[str]:
    """The RPCs that a server serves."""

    async def ask() -> frozenset[str]:
        server = ModalLocal(Settings(simulate=True))
        await server.start()
        try:
            return server.router.served
        finally:
            await server.stop()

    return asyncio.run(ask())


def main() -> None:
    """Writes the page."""
    page = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/modal_local.md")
    page.write_text(with_table(page.read_text(), rpc_table(served_rpcs())))


if __name__ == "__main__":
    main()
