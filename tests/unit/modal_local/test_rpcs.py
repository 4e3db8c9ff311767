"""Which RPCs the installed SDK can call, and which are served: a new one that nobody has thought of fails by name."""

import asyncio
import re
from pathlib import Path

import modal

from modal_local.rpc import method_names
from modal_local.server import ModalLocal
from modal_local.settings import Settings

# What is left out on purpose, by subject. Whoever calls one of these gets UNIMPLEMENTED with its name.
LEFT_OUT = {
    "sandboxes and what runs in them": (
        r"Sandbox\w*|PersistentSandbox\w*|Task(?!List|Result|GetInfo)\w+|ContainerExec\w*"
    ),
    "shared volumes, deprecated": r"SharedVolume\w*",
    "servers, endpoints and flash": r"Server\w*|Endpoint\w*|Flash\w*|ContainerServer\w*|FunctionGetFlashAuthToken",
    "clusters, proxies and tunnels": r"Cluster\w*|TaskCluster\w*|Proxy\w*|Tunnel\w*",
    "people, roles, tokens and audit": (
        r"AuditLog\w*|ServiceUser\w*|WebhookToken\w*|Token(Flow\w*|Delete|Enable|Disable)|TokensList"
        r"|WorkspaceMembersList|EnvironmentGetRoles|EnvironmentRoleSet"
    ),
    "the dashboard and workspace settings": (
        r"WorkspaceDashboardUrlGet|WorkspaceSettings|WorkspaceSetImageBuilderVersion|WorkspaceSetDefaultEnvironment"
        r"|EnvironmentUpdate|CurlGetAuthToken|ObjectSuggest"
    ),
    "statistics over time": r"(App|Server)GetTimeRangeStats",
    "the input plane": r"Attempt\w+|Map\w+",
    "built images and their names": r"Image(Build\w*|GetByTag|ListTags|TagRevisions|Publish|NameDelete|Delete)",
    "promoting": r"AppPromote",
    "terminals": r"FunctionStartPtyShell",
}


def callable_rpcs() -> set[str]:
    """The RPCs that the installed SDK's own source names."""
    package = Path(modal.__file__).parent
    names: set[str] = set()
    for source in package.rglob("*.py"):
        names |= set(re.findall(r"stub\.([A-Z]\w+)", source.read_text()))
    return names & set(method_names())


def served_rpcs() -> frozenset[str]:
    async def ask() -> frozenset[str]:
        server = ModalLocal(Settings(simulate=True))
        await server.start()
        try:
            return server.router.served
        finally:
            await server.stop()

    return asyncio.run(ask())


def test_every_rpc_that_the_sdk_can_call_is_served_or_left_out_by_name() -> None:
    served = served_rpcs()
    unknown = {
        name
        for name in callable_rpcs() - served
        if not any(re.fullmatch(pattern, name) for pattern in LEFT_OUT.values())
    }
    assert unknown == set(), f"modal {modal.__version__} can call these, and nobody serves them: {sorted(unknown)}"


def test_nothing_that_is_left_out_is_served_after_all() -> None:
    both = {name for name in served_rpcs() if any(re.fullmatch(pattern, name) for pattern in LEFT_OUT.values())}
    assert both == set(), "take these out of the list of what is left out"


def test_the_sdk_is_the_one_that_this_was_written_for() -> None:
    assert modal.__version__ == "1.6.4", "run the conformance tests with the new SDK, then change this line"
