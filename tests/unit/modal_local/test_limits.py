"""What a function may ask for."""

import pytest
from modal_proto import api_pb2

from modal_local.errors import InvalidArgumentError, UnimplementedError
from modal_local.limits import check_definition

F, R, G = api_pb2.Function, api_pb2.Resources, api_pb2.GPUConfig


def gpu(kind: str, count: int) -> api_pb2.Function:
    return F(resources=R(gpu_config=G(gpu_type=kind, count=count)))


def regions(*names: str) -> api_pb2.Function:
    return F(scheduler_placement=api_pb2.SchedulerPlacement(regions=names))


@pytest.mark.parametrize(
    ("definition", "named"),
    [
        (F(timeout_secs=86_401), "timeout"),
        (F(startup_timeout_secs=86_401), "startup_timeout"),
        (F(cloud_provider_str="basement"), "cloud"),
        (regions("us", "mars"), "mars"),
        (regions("US East"), "US East"),
        (F(resources=R(milli_cpu=1_000_000)), "cpu"),
        (F(resources=R(milli_cpu=50)), "cpu"),
        (F(resources=R(memory_mb=2**31)), "memory"),
        (F(resources=R(memory_mb=16)), "memory"),
        (F(resources=R(ephemeral_disk_mb=2**24)), "ephemeral_disk"),
        (gpu("H100", 9), "at most 8 of type H100"),
        (gpu("A10G", 5), "at most 4 of type A10"),
        (gpu("GTX", 1), "GTX"),
    ],
)
def test_what_is_beyond_a_limit_is_refused_by_name(definition: api_pb2.Function, named: str) -> None:
    with pytest.raises(InvalidArgumentError, match=named):
        check_definition(definition)


@pytest.mark.parametrize(
    "definition",
    [
        F(),
        F(timeout_secs=86_400, startup_timeout_secs=1, cloud_provider_str="OCI"),
        regions("us", "us-east", "us-east-1", "eu-west", "uk", "us-central1", "europe-west4", "ap-melbourne", "jp"),
        F(resources=R(milli_cpu=125, memory_mb=128)),
        F(resources=R(milli_cpu=64_000, memory_mb=2 * 1024 * 1024, ephemeral_disk_mb=3 * 1024 * 1024)),
        gpu("H100!", 8),
        gpu("A10G", 4),
        gpu("any", 1),
    ],
)
def test_what_modal_runs_is_let_through(definition: api_pb2.Function) -> None:
    check_definition(definition)


@pytest.mark.parametrize(
    ("definition", "named"),
    [
        (F(_experimental_group_size=2), "clustered functions"),
        (F(shared_volume_mounts=[api_pb2.SharedVolumeMount()]), "network file systems"),
        (F(proxy_id="pr-1"), "proxies"),
        (F(is_server=True), "Servers"),
        (F(i6pn_enabled=True), "i6pn"),
    ],
)
def test_what_is_left_out_is_refused_by_name(definition: api_pb2.Function, named: str) -> None:
    with pytest.raises(UnimplementedError, match=f"does not serve .*{named}"):
        check_definition(definition)
