"""What is measured of a call that has ended."""

from workers.overflow.completer import BYTES_PER_GIB, _peak_gpu_memory


def test_the_peak_is_told_as_a_share_of_one_gpus_memory() -> None:
    # Given a peak on each of four A100s of 80 GiB, then the share is of one of them
    measured = _peak_gpu_memory(60 * BYTES_PER_GIB, "A100-80GB:4")
    assert measured == {"peak_gpu_memory_bytes": 60 * BYTES_PER_GIB, "peak_gpu_memory_ratio": 0.75}


def test_where_no_gpu_was_measured_there_is_no_share() -> None:
    assert _peak_gpu_memory(None, "H100") == {"peak_gpu_memory_bytes": None}
