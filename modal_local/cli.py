"""The command line: `python -m modal_local serve`, also mounted as `overspill modal`."""

import asyncio
import gc
import json
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer

from modal_local.admin_cli import add_to
from modal_local.errors import ModalLocalError
from modal_local.server import Address, ModalLocal
from modal_local.settings import CRASH_POLICIES, Settings, SettingsError, parse_gpus


class _CommandLine(typer.Typer):
    """Says what is wrong with a command in one line, also where it is mounted in another command line."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Runs, and exits."""
        try:
            code = super().__call__(*args, **{**kwargs, "standalone_mode": False})
        except typer.Abort:
            code = _INTERRUPTED
        except typer.TyperException as error:
            typer.echo(f"modal_local: {_one_line(error)} See --help.", err=True)
            code = getattr(error, "exit_code", 1)
        sys.exit(code)


def _one_line(error: typer.TyperException) -> str:
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    return " ".join(message.split())


app = _CommandLine(
    help="A Modal on loopback for development and tests.", rich_markup_mode=None, pretty_exceptions_enable=False
)
add_to(app)
_INTERRUPTED = 130
_GC_THRESHOLDS = (20_000, 20, 50)


@app.command()
def serve(  # noqa: PLR0917 - typer reads each flag from a parameter
    port: Annotated[int, typer.Option(help="gRPC port on 127.0.0.1; 0 takes a free one.")] = 0,
    state: Annotated[Path | None, typer.Option(help="Directory that survives restarts.")] = None,
    gpus: Annotated[str, typer.Option(help="Inventory, e.g. H100=8,A100-80GB=4. Default: no limit.")] = "",
    cold_start: Annotated[str, typer.Option(help="Seconds added to each container start, or `dist`.")] = "0",
    faults: Annotated[Path | None, typer.Option(help="TOML file with scripted faults.")] = None,
    simulate: Annotated[bool, typer.Option(help="Simulate containers inside the server.")] = False,
    max_containers: Annotated[int | None, typer.Option(help="Cap on all containers. Default: twice the cores.")] = None,
    starts_per_s: Annotated[float | None, typer.Option(help="Cap on container starts per second. Default: 10.")] = None,
    crash_policy: Annotated[str, typer.Option(help=f"One of {', '.join(CRASH_POLICIES)}.")] = "reschedule",
    crash_limit: Annotated[int, typer.Option(help="Container deaths tolerated before the policy ends an input.")] = 0,
    init_failure_limit: Annotated[int, typer.Option(help="Failed starts in a row that are tolerated.")] = 3,
    heartbeat_timeout_s: Annotated[float, typer.Option(help="Heartbeat timeout of a container, seconds.")] = 60.0,
    standby: Annotated[bool, typer.Option(help="Fork containers from a prepared interpreter.")] = True,
    terminate_containers: Annotated[
        bool, typer.Option(help="Serve cancel(terminate_containers=True), or refuse it as Modal is reported to do.")
    ] = True,
    web_timeout_s: Annotated[float, typer.Option(help="Seconds after which a web request is answered by 303.")] = 150.0,
    seed: Annotated[int, typer.Option(help="Seed of random cold starts and faults.")] = 0,
    token_id: Annotated[str | None, typer.Option(envvar="MODAL_LOCAL_TOKEN_ID")] = None,
    token_secret: Annotated[str | None, typer.Option(envvar="MODAL_LOCAL_TOKEN_SECRET")] = None,
) -> None:
    """Serve until SIGTERM or Ctrl-C; print one line of JSON when ready."""
    try:
        policy = next((known for known in CRASH_POLICIES if known == crash_policy), None)
        if policy is None:
            raise SettingsError(f"--crash-policy: expected one of {', '.join(CRASH_POLICIES)}, got {crash_policy!r}.")
        settings = Settings(
            port=port,
            state=state,
            gpus=parse_gpus(gpus),
            cold_start=cold_start,
            faults=faults,
            simulate=simulate,
            max_containers=max_containers,
            starts_per_s=starts_per_s,
            crash_policy=policy,
            crash_limit=crash_limit,
            init_failure_limit=init_failure_limit,
            heartbeat_timeout_s=heartbeat_timeout_s,
            standby=standby,
            terminate_containers=terminate_containers,
            web_timeout_s=web_timeout_s,
            seed=seed,
            token_id=token_id,
            token_secret=token_secret,
        )
        asyncio.run(_serve(settings))
    except ModalLocalError as error:
        typer.echo(f"modal_local: {error}", err=True)
        raise typer.Exit(1) from None


async def _serve(settings: Settings) -> None:
    _log_to_stderr()
    # Tens of thousands of calls live long; garbage collection at Python's default rate costs a tenth.
    gc.set_threshold(*_GC_THRESHOLDS)
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    server = ModalLocal(settings)
    try:
        address = await server.start()
        sys.stdout.write(json.dumps(asdict(address)) + "\n")
        sys.stdout.flush()
        await stopping.wait()
    finally:
        await server.stop()


def _log_to_stderr() -> None:
    render = structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            render,
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


@app.command()
def env(
    address: Annotated[str, typer.Argument(help="The line of JSON that serve printed; `-` reads it from stdin.")] = "-",
) -> None:
    """Print export lines that point the modal SDK and CLI at this server."""
    text = sys.stdin.readline() if address == "-" else address
    try:
        where = Address(**json.loads(text))
    except (ValueError, TypeError):
        typer.echo("modal_local: expected the line of JSON that `serve` prints.", err=True)
        raise typer.Exit(2) from None
    for name, value in environment(where).items():
        typer.echo(f"export {name}={value}")


def environment(address: Address) -> dict[str, str]:
    """The variables by which a program that uses modal finds a server."""
    return {
        "MODAL_SERVER_URL": address.server_url,
        "MODAL_TOKEN_ID": address.token_id,
        "MODAL_TOKEN_SECRET": address.token_secret,
        "MODAL_CONFIG_PATH": "/nonexistent/modal.toml",
        "MODAL_DISABLE_API_PROXY": "1",
        "MODAL_LOCAL_ADMIN_URL": address.admin_url,
    }


def main() -> None:
    """Entry of `python -m modal_local`."""
    app()
