"""Who may start a container with the room that there is."""

from hypothesis import given
from hypothesis import strategies as st

from modal_local.scheduler.placement import Room, StartRequest, allot, evict


def test_the_longest_wait_is_served_first_and_each_in_turn() -> None:
    requests = [StartRequest("late", 3, 20.0), StartRequest("early", 3, 10.0)]
    allotment = allot(requests, Room(containers=3, starts=9, gpus={}))
    assert allotment.starts == ("early", "late", "early")
    assert allotment.short_of_containers


def test_a_pool_without_a_card_does_not_hold_up_the_others() -> None:
    requests = [StartRequest("gpu", 2, 1.0, "H100", 2), StartRequest("cpu", 1, 2.0)]
    allotment = allot(requests, Room(containers=9, starts=9, gpus={"H100": 3}))
    assert allotment.starts == ("gpu", "cpu")
    assert allotment.short_of_gpus == {"H100"}


def test_lent_places_are_for_pools_that_are_waited_for() -> None:
    # given every place taken, two of them by parents that wait
    requests = [StartRequest("parents", 5, 1.0), StartRequest("children", 3, 2.0, awaited=True)]
    allotment = allot(requests, Room(containers=0, starts=9, gpus={}, lent=2))
    assert allotment.starts == ("children", "children")
    assert allotment.short_of_containers
    # then one lent before counts: there is one left
    assert allot(requests, Room(containers=-1, starts=9, gpus={}, lent=2)).starts == ("children",)


def test_the_burst_limit_is_told_apart() -> None:
    allotment = allot([StartRequest("a", 5, 1.0)], Room(containers=9, starts=2, gpus={}))
    assert (allotment.starts, allotment.short_of_starts) == (("a", "a"), True)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["", "H100", "L4"]), st.integers(1, 4)), max_size=8),
    st.integers(0, 20),
    st.integers(0, 20),
    st.integers(0, 8),
)
def test_no_more_starts_than_room(wishes: list[tuple[int, str, int]], containers: int, starts: int, cards: int) -> None:
    requests = [
        StartRequest(str(n), wanted, float(n), gpu, count if gpu else 0)
        for n, (wanted, gpu, count) in enumerate(wishes)
    ]
    gpus = {"H100": cards, "L4": 1}
    given_out = allot(requests, Room(containers, starts, gpus)).starts
    assert len(given_out) <= min(containers, starts)
    for request in requests:
        assert given_out.count(request.pool_id) <= request.wanted
    for gpu, there in gpus.items():
        used = sum(given_out.count(one.pool_id) * one.gpu_count for one in requests if one.gpu_type == gpu)
        assert used <= there


def test_eviction_takes_the_longest_idle_of_others() -> None:
    idle = [("mine", "a", 1.0), ("young", "b", 5.0), ("old", "b", 2.0)]
    assert evict(idle, frozenset({"a"}), 1) == ("old",)
