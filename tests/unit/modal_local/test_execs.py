"""A command beside a container: its streams, its end, and a client that asks twice."""

import asyncio
import os
from pathlib import Path

from modal_local.execs.commands import Command, Place


async def run(tmp_path: Path, script: str, timeout_s: float = 0.0) -> Command:
    place = Place(os.getpid(), {"PATH": os.environ["PATH"], "MARK": "m"}, tmp_path, mounted=False)
    return await Command.start(place, ["sh", "-c", script], (), timeout_s)


async def everything(command: Command, offset: int = 0) -> tuple[bytes, bytes]:
    out = b"".join([piece async for piece in command.stdout.read(offset)])
    return out, b"".join([piece async for piece in command.stderr.read(0)])


def test_streams_are_kept_apart_and_can_be_read_again_from_anywhere(tmp_path: Path) -> None:
    async def main() -> None:
        command = await run(tmp_path, "pwd; echo $MARK; echo err >&2; exit 3")
        out, err = await everything(command)
        assert (out, err) == (f"{tmp_path}\nm\n".encode(), b"err\n")
        assert (await everything(command, len(out) - 2))[0] == b"m\n"
        assert await command.wait() == 3

    asyncio.run(main())


def test_input_that_is_sent_twice_arrives_once(tmp_path: Path) -> None:
    async def main() -> None:
        command = await run(tmp_path, "cat")
        await command.write(0, b"abc", eof=False)
        await command.write(0, b"abcdef", eof=False)
        await command.write(6, b"", eof=True)
        assert (await everything(command))[0] == b"abcdef"
        assert (command.written, command.closed) == (6, True)
        assert await command.wait() == 0

    asyncio.run(main())


def test_a_command_that_takes_too_long_is_killed_with_what_it_has_started(tmp_path: Path) -> None:
    async def main() -> None:
        command = await run(tmp_path, "sleep 300 & sleep 300", timeout_s=0.2)
        async with asyncio.timeout(20):
            assert await command.wait() == -9
            await everything(command)

    asyncio.run(main())
