"""What `benchmarks.overflow` sees from outside while it runs: the money, what is in flight, what the followers cost."""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from infra.settings import Settings
from ledger import Ledger

#: Interval of its samples, seconds.
EVERY_S = 0.5
#: Where the ledger has them: due, claimed, to be cancelled.
CALLS_IN = ("calls:due", "calls:claimed", "cancels")
#: In flight at the peak, about: at least this share of the most.
_NEAR_THE_PEAK = 0.9


@dataclass
class Watch:
    """The money, and the calls in flight: spawned and recorded, and neither concluded nor stopped yet."""

    ledger: Ledger
    settings: Settings
    over: threading.Event = field(default_factory=threading.Event)
    overshoot_usd_micros: int = 0
    in_flight: list[int] = field(default_factory=list)

    def run(self) -> None:
        """Watch until it is over."""
        cap = self.ledger.money.limits().month_cap_usd_micros
        while not self.over.wait(EVERY_S):
            money = self.ledger.placement.view().money
            committed = money.spent_usd_micros + money.reserved_usd_micros
            self.overshoot_usd_micros = max(self.overshoot_usd_micros, committed - cap, 0)
            self.in_flight.append(self._in_flight_now())

    def _in_flight_now(self) -> int:
        """In one transaction: a call goes from one set to the other meanwhile."""
        pipe = self.ledger.client.pipeline(transaction=True)
        for name in CALLS_IN:
            pipe.zcard(f"{self.ledger.prefix}:{name}")
        return sum(pipe.execute())

    @property
    def most_in_flight(self) -> int:
        """At the peak."""
        return max(self.in_flight, default=0)

    @property
    def near_the_peak_s(self) -> float:
        """For how long at least nine tenths of the most were in flight, seconds."""
        return EVERY_S * sum(number >= _NEAR_THE_PEAK * self.most_in_flight for number in self.in_flight)


class Meter:
    """What the followers cost between two instants."""

    def __init__(self, followers: Sequence[psutil.Process]) -> None:
        self._followers = followers
        self._began_at = time.perf_counter()
        self._cpu_s = self._cpu_s_now()
        self._machine_s = _machine_busy_s()
        self._beside = _beside(followers)
        self._beside_s = {name: _cpu_s(process) for name, process in self._beside.items()}

    def read(self) -> "Cost":
        """What they have cost since this meter was made."""
        seconds = time.perf_counter() - self._began_at
        used = [now - before for now, before in zip(self._cpu_s_now(), self._cpu_s, strict=True)]
        busy = (_machine_busy_s() - self._machine_s) / (seconds * (psutil.cpu_count() or 1))
        peaks = [_peak_bytes(process.pid) for process in self._followers]
        beside = {n: round((_cpu_s(p) - self._beside_s[n]) / seconds, 3) for n, p in self._beside.items()}
        return Cost(seconds, used, peaks, busy, beside)

    def _cpu_s_now(self) -> list[float]:
        return [_cpu_s(process) for process in self._followers]


@dataclass(frozen=True)
class Cost:
    """What the followers cost, each."""

    seconds: float
    cpu_s_each: Sequence[float]
    #: Their largest memory so far.
    peak_bytes_each: Sequence[int]
    #: How busy the whole machine was, share of all its cores.
    machine_busy_ratio: float
    #: Cores that the benchmark's other processes kept busy.
    cores_beside: Mapping[str, float]

    @property
    def cpu_s(self) -> float:
        """Processor time of all."""
        return sum(self.cpu_s_each)

    @property
    def cores_each(self) -> list[float]:
        """Cores that each kept busy."""
        return [round(cpu_s / self.seconds, 3) for cpu_s in self.cpu_s_each]


def _beside(followers: Sequence[psutil.Process]) -> dict[str, psutil.Process]:
    """The benchmark's processes beside the followers: this one, and those that it has started."""
    known = {process.pid for process in followers}
    others = [process for process in psutil.Process().children(recursive=True) if process.pid not in known]
    return {"benchmark": psutil.Process()} | {_name(process.cmdline()): process for process in others}


def _name(command: Sequence[str]) -> str:
    if any("simulated_modal" in word for word in command):
        return "modal_local"
    return Path(command[0].split()[0]).name  # redis adds its address to its name


def _cpu_s(process: psutil.Process) -> float:
    return float(sum(process.cpu_times()[:2]))


def _machine_busy_s() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0))


def _peak_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024
