# ruff: noqa: INP001 - python looks for this very file, outside any package
"""Runs first in each container: takes the deployer's working tree off the import path, and says where it is.

An editable installation puts the working tree on the path by a `.pth` file. A container must run what was deployed,
and nothing else of the deployer's, or a test here would pass that fails on Modal.
"""

import importlib.abc
import importlib.machinery
import os
import sys


def _ours(path: str) -> bool:
    return path in allowed or any(path.startswith(root + os.sep) for root in roots)


allowed = set(os.environ.get("PYTHONPATH", "").split(os.pathsep))
roots = {os.path.realpath(p) for p in (sys.prefix, sys.base_prefix, sys.exec_prefix)} | {sys.prefix, sys.base_prefix}
roots.discard("/usr")
sys.path[:] = [p for p in sys.path if _ours(p) or p.startswith(("/usr/lib", "/usr/local/lib", "/usr/lib64"))]
sys.meta_path[:] = [f for f in sys.meta_path if not getattr(f, "__module__", "").startswith("__editable__")]


class _Address(importlib.abc.MetaPathFinder):
    """A container's own address, by which the SDK reaches a web server in it: here it is loopback."""

    def find_spec(self, fullname, path, target=None):  # type: ignore[no-untyped-def]
        if fullname != "modal._runtime.asgi":
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def exec_module(module):  # type: ignore[no-untyped-def]
                run(module)
                module.get_ip_address = lambda _: "127.0.0.1"

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, _Address())
