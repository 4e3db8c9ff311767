"""The RPCs that are left out by design, by subject: what a caller of one is told. Pure."""

import re
from typing import Final

#: Subject, and a pattern that the names of its RPCs match.
LEFT_OUT: Final = {
    "sandboxes and what runs in them": (
        r"Sandbox\w*|PersistentSandbox\w*|Task(?!List|Result|GetInfo|GetCommandRouterAccess$)\w+|ContainerExec\w*"
    ),
    "network file systems": r"SharedVolume\w*",
    "Servers, endpoints and flash": r"Server\w*|Endpoint\w*|Flash\w*|ContainerServer\w*|FunctionGetFlashAuthToken",
    "clusters, proxies and tunnels": r"Cluster\w*|TaskCluster\w*|Proxy\w*|Tunnel\w*",
    "people, roles, tokens and audit": (
        r"AuditLog\w*|ServiceUser\w*|WebhookToken\w*|Token(Flow\w*|Delete|Enable|Disable)|TokensList"
        r"|WorkspaceMembersList|EnvironmentGetRoles|EnvironmentRoleSet"
    ),
    "the dashboard and workspace settings": (
        r"WorkspaceDashboardUrlGet|WorkspaceSettings|WorkspaceSetImageBuilderVersion|WorkspaceSetDefaultEnvironment"
        r"|EnvironmentUpdate|CurlGetAuthToken|ObjectSuggest"
    ),
    "statistics of apps and Servers": r"(App|Server)GetTimeRangeStats",
    "the input plane": r"Attempt\w+|Map\w+",
    "built images and their names": r"Image(Build\w*|GetByTag|ListTags|TagRevisions|Publish|NameDelete|Delete)",
    "promoting a version": r"AppPromote",
    "terminals": r"FunctionStartPtyShell",
}


def refusal(rpc: str) -> str:
    """What the caller of an RPC that nobody serves is told."""
    for subject, pattern in LEFT_OUT.items():
        if re.fullmatch(pattern, rpc):
            return f"modal_local does not serve {rpc}: {subject} are left out, see docs/modal_local.md."
    return f"modal_local does not serve {rpc}."
