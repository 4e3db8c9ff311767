"""Free ports on loopback."""

import random
import socket

#: Below Linux's range for outgoing connections (net.ipv4.ip_local_port_range starts at 32768): a port that is free
#: here cannot be taken by somebody's outgoing connection before its server opens it, as one from bind(0) can.
_FIRST, _LAST = 18_000, 32_767
_TRIES = 1_000


def is_free(port: int) -> bool:
    """Whether a port of loopback is free now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: an old connection is no listener
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_ports(count: int) -> list[int]:
    """`count` different ports that were free a moment ago.

    Raises:
        OSError: hardly any port is free.
    """
    found: list[int] = []
    for _ in range(_TRIES):
        if len(found) == count:
            return found
        port = random.randint(_FIRST, _LAST)
        if port not in found and is_free(port):
            found.append(port)
    raise OSError(f"expected {count} free ports between {_FIRST} and {_LAST}, found {len(found)}")
