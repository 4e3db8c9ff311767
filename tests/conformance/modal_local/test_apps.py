"""Apps from the command line: deployed, run, listed, read, redeployed, stopped."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import modal
import pytest

from tests.support.modal_local import start_modal_local

from .conftest import PROJECTS, Target, target_for
from .test_cancel import running

pytestmark = pytest.mark.modal_conformance


@pytest.fixture(scope="module")
def fresh() -> Iterator[Target]:
    """A server of its own: these tests stop and replace the app."""
    server = start_modal_local(max_containers=5, starts_per_s=50)
    try:
        yield target_for(server)
    finally:
        server.stop()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project, to be edited."""
    copy = tmp_path / "basic"
    shutil.copytree(PROJECTS / "basic", copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def deploy(target: Target, project: Path, *, check: bool = True) -> subprocess.CompletedProcess[str]:
    return target.cli("deploy", "-m", "basic_app.app", project=str(project), check=check)


def test_modal_run_calls_a_local_entrypoint_and_shows_the_output(fresh: Target) -> None:
    done = fresh.cli("run", "-m", "basic_app.app::square", "--number", "12", project="basic")
    assert "App completed" in done.stdout
    again = fresh.cli("run", "-m", "basic_app.app::shout")
    assert "shouting from a container" in again.stdout


def test_modal_run_shows_the_users_exception(fresh: Target) -> None:
    done = fresh.cli("run", "-m", "basic_app.app::fail", "--kind", "value", check=False)
    assert done.returncode != 0
    assert "a bad value" in done.stdout + done.stderr


def test_deploy_list_history_and_stop(fresh: Target, project: Path) -> None:
    # given a deployed app
    deploy(fresh, project)
    listed = json.loads(fresh.cli("app", "list", "--json").stdout)
    assert [app for app in listed if "basic" in json.dumps(app) and "deployed" in json.dumps(app)]
    assert "v1" in fresh.cli("app", "history", "basic").stdout
    call = fresh.function("nap").spawn(60.0)
    running(fresh, call)

    # when it is stopped
    fresh.cli("app", "stop", "basic", "--yes")

    # then what ran is ended, and nothing of it is found any more
    with pytest.raises(modal.exception.RemoteError, match="cancelled"):
        call.get(timeout=10)
    with pytest.raises(modal.exception.NotFoundError):
        modal.Function.from_name("basic", "square", client=fresh.client).remote(2)


def test_logs_of_an_app_and_of_a_container(fresh: Target, project: Path) -> None:
    deploy(fresh, project)
    call = modal.Function.from_name("basic", "shout", client=fresh.client).spawn()
    call.get(timeout=30)
    task = call.get_call_graph()[0].task_id
    assert "shouting from a container" in fresh.cli("app", "logs", "basic").stdout
    assert "shouting from a container" in fresh.cli("container", "logs", task).stdout
    assert "shouting" not in fresh.cli("app", "logs", "basic", "--search", "no such words").stdout


def test_container_list_and_stop(fresh: Target, project: Path) -> None:
    # given a running container
    deploy(fresh, project)
    call = modal.Function.from_name("basic", "nap", client=fresh.client).spawn(3.0)
    task = running(fresh, call)
    assert task in fresh.cli("container", "list").stdout

    # when it is stopped, then its input runs again in another one
    fresh.cli("container", "stop", task, "--yes")
    assert call.get(timeout=30) == "slept"
    assert call.get_call_graph()[0].task_id != task


def test_rolling_redeploy(fresh: Target, project: Path) -> None:
    # given a call that runs in the old version
    deploy(fresh, project)
    worker = modal.Cls.from_name("basic", "Worker", client=fresh.client)
    old = worker().task.spawn(3.0)
    running(fresh, old)
    assert worker().greet.remote("a").endswith("one")

    # when a new version is deployed
    engine = project / "basic_engine" / "__init__.py"
    engine.write_text(re.sub('VERSION = "one"', 'VERSION = "two"', engine.read_text()))
    deploy(fresh, project)

    # then new calls run the new code, by the old handle too, and the old call finishes
    assert worker().greet.remote("b").endswith("two")
    assert old.get(timeout=30)


def test_a_broken_deploy_is_told_and_the_old_version_keeps_serving(fresh: Target, project: Path) -> None:
    # given a deployed version
    deploy(fresh, project)
    before = modal.Function.from_name("basic", "where", client=fresh.client).remote()["version"]

    # when a version that cannot be imported is deployed
    app = project / "basic_app" / "app.py"
    app.write_text("import no_such_module_anywhere\n" + app.read_text())
    done = deploy(fresh, project, check=False)

    # then the client is told, and the old one serves on
    assert done.returncode != 0
    assert "no_such_module_anywhere" in done.stdout + done.stderr
    assert modal.Function.from_name("basic", "where", client=fresh.client).remote()["version"] == before


def test_a_version_that_only_breaks_in_the_container_tells_its_error(fresh: Target, project: Path) -> None:
    app = project / "basic_app" / "app.py"
    app.write_text(
        app.read_text() + '\nif modal.is_local() is False:\n    raise ImportError("only in the container")\n'
    )
    deploy(fresh, project)
    with pytest.raises(ImportError, match="only in the container"):
        modal.Function.from_name("basic", "square", client=fresh.client).spawn(1).get(timeout=60)


def test_environments(fresh: Target, project: Path) -> None:
    fresh.cli("environment", "create", "other")
    assert "other" in fresh.cli("environment", "list").stdout
    fresh.cli("deploy", "-m", "basic_app.app", "--env", "other", project=str(project))
    square = modal.Function.from_name("basic", "square", environment_name="other", client=fresh.client)
    assert square.remote(3) == 9


def test_a_deploy_may_replace_containers_at_once(fresh: Target, project: Path) -> None:
    # given a container of the first version
    deploy(fresh, project)
    where = modal.Function.from_name("basic", "where", client=fresh.client)
    before = where.remote()["task"]

    # when the next version is deployed with the strategy `recreate`
    engine = project / "basic_engine" / "__init__.py"
    engine.write_text(engine.read_text().replace('"one"', '"three"'))
    fresh.cli("deploy", "-m", "basic_app.app", "--strategy", "recreate", project=str(project))

    # then no old one is left
    assert before not in fresh.cli("container", "list").stdout
    assert where.remote()["version"] == "three"
