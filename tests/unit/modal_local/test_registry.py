"""Options merged into definitions, and what the autoscaler makes of them."""

import pytest
from modal_proto import api_pb2

from modal_local.errors import InvalidArgumentError
from modal_local.limits import known_card
from modal_local.registry import merge_options, pool_settings
from modal_local.rpc import Credentials, is_loopback
from modal_local.settings import SettingsError, parse_gpus


def definition() -> api_pb2.Function:
    made = api_pb2.Function(timeout_secs=100, secret_ids=["st-1"])
    made.resources.gpu_config.gpu_type = "L4"
    made.resources.gpu_config.count = 1
    made.resources.milli_cpu = 2000
    made.autoscaler_settings.max_containers = 4
    return made


def test_options_change_a_copy_and_leave_the_rest() -> None:
    source = definition()
    options = api_pb2.FunctionOptions(timeout_secs=7, concurrency_limit=2, secret_ids=["st-2"])
    options.resources.gpu_config.gpu_type = "H100"
    options.resources.gpu_config.count = 2
    merged = merge_options(source, options)
    assert source == definition()
    assert (merged.resources.gpu_config.gpu_type, merged.resources.gpu_config.count) == ("H100", 2)
    assert merged.resources.milli_cpu == 2000
    assert (merged.timeout_secs, merged.autoscaler_settings.max_containers) == (7, 2)
    assert list(merged.secret_ids) == ["st-1", "st-2"]


def test_where_a_container_runs_is_part_of_its_price() -> None:
    source = definition()
    source.scheduler_placement.regions.append("us")
    source.scheduler_placement.nonpreemptible = True
    options = api_pb2.FunctionOptions()
    options.scheduler_placement.regions.extend(["eu-west", "eu-north"])
    before, after = pool_settings(source, None), pool_settings(merge_options(source, options), None)
    assert (before.region, before.nonpreemptible) == ("us", True)
    assert (after.region, after.nonpreemptible) == ("eu-west", True)


def test_pool_settings_with_an_override() -> None:
    override = api_pb2.AutoscalerSettings(max_containers=9, scaledown_window=5)
    settings = pool_settings(definition(), override)
    assert (settings.max_containers, settings.scaledown_window_s) == (9, 5)
    assert (settings.gpu_type, settings.gpu_count, settings.cpu_cores) == ("L4", 1, 2.0)


@pytest.mark.parametrize(
    ("name", "card"), [("h100!", "H100"), ("A100-40GB", "A100"), ("a10g", "A10"), ("B200+", "B200")]
)
def test_gpu_names(name: str, card: str) -> None:
    assert known_card(name) == card
    with pytest.raises(InvalidArgumentError):
        known_card("GTX")


def test_inventory_flag() -> None:
    assert parse_gpus("H100=8, a100-80gb=4") == {"H100": 8, "A100-80GB": 4}
    assert parse_gpus("") == {}
    for bad in ("H100", "H100=-1", "GTX=1"):
        with pytest.raises(SettingsError):
            parse_gpus(bad)


def test_only_loopback_is_loopback() -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "127.8.8.8", "::1")] == [True] * 3
    assert [is_loopback(host) for host in ("10.0.0.1", "192.168.1.2", "8.8.8.8", "x", "::ffff:10.0.0.1")] == [False] * 5


def test_credentials_tell_clients_and_containers_apart() -> None:
    credentials = Credentials(tokens={"ak": "as"}, container_secrets={"ta-1": "secret"})
    client = credentials.identify({"x-modal-token-id": "ak", "x-modal-token-secret": "as"})
    container = credentials.identify({"x-modal-local-task": "ta-1", "x-modal-local-task-secret": "secret"})
    assert (client.kind, container.kind, container.task_id) == ("client", "container", "ta-1")
