"""Containers that need not wait for an interpreter.

What lives here: `interpreter`, a program that imports the SDK's container entrypoint once, and then forks a child for
each container; `keeper`, the server's side of it: starts the program, asks it for children, hears of their ends.
Importing the SDK is most of a container's cold start, and its memory is shared by all children.

What must hold: a child begins to exist when its container is assigned, so that the kernel's start time of the process
is the container's; it is a process as any other: its own session, working directory, environment, mounts and exit
code, killable by its id, and killed by the kernel when the server dies. A container whose environment or source an
interpreter reads while it starts is none for a child (`keeper.fits`).

Who may come in: `processes` launches through `keeper`. `interpreter` imports nothing of this project, or containers
would find it imported.
"""
