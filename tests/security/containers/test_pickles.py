"""Pickles that nobody who is honest writes, through the SDK's own function: refused, at once, in little memory."""

import array
import collections
import datetime as dt
import decimal
import functools
import io
import operator
import os
import pickle
import subprocess
import sys
import time
from typing import Any

import pytest
from modal import _serialization
from modal.exception import AuthError, DeserializationError, ServiceError

from workers.overflow.modal_sdk.port import ForbiddenPickle
from workers.overflow.modal_sdk.unpickling import restrict_unpickling

_START, _STOP = b"\x80\x04", b"."


@pytest.fixture(autouse=True)
def restricted() -> None:
    restrict_unpickling()


def _read(pickled: bytes) -> Any:
    return _serialization.deserialize(pickled, None)


class _Calls:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self._reduced = (function, arguments)

    def __reduce__(self) -> Any:
        return self._reduced


@pytest.mark.parametrize(
    "value",
    [
        _Calls(os.system, "true"),
        _Calls(eval, "1 + 1"),
        _Calls(getattr, "x", "upper"),
        _Calls(operator.attrgetter("a.b")),
        _Calls(functools.partial, print, 1),
        _Calls(bytearray, 10**12),
        _Calls(range, 10**12),
        collections.OrderedDict(a=1),
        dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        decimal.Decimal(1),
        array.array("d", [1.0]),
        {1, 2},
        {(1, 2): 3},
        io.BytesIO(b"a"),
        subprocess.CalledProcessError(1, "a"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_plain_value_is_refused(value: Any) -> None:
    with pytest.raises(DeserializationError) as caught:
        _read(pickle.dumps(value, protocol=4))
    assert isinstance(caught.value.__cause__, ForbiddenPickle)


@pytest.mark.parametrize(
    "pickled",
    [
        # A name with dots, from an exception's class to what its module has
        _START + b"\x8c\x08builtins\x8c\x1dException.__subclasses__\x93".replace(b"\x1d", b"\x18") + b")R" + _STOP,
        # Modal's persistent ids: an object of its own, and one of any class
        b"\x80\x04(\x8c\x04sync\x8c\x01xtQ.",
        # The registry of extensions, an instance by its class, the protocols before 2
        b"\x80\x04\x82\x01.",
        b"cos\nsystem\n(S'true'\ntR.",
        b"(S'true'\nios\nsystem\n.",
        # An exception's class, called with attributes instead of an instance
        _START + b"\x8c\x08builtins\x8c\x09Exception\x93}b" + _STOP,
        # A string that is called
        _START + b"\x8c\x01a)R" + _STOP,
        # A table of 64 GiB for what is remembered, and a bytearray of a terabyte that does not come
        _START + b"N\x96" + (10**12).to_bytes(8, "little") + _STOP,
        # One object of sixty bytes for each byte
        _START + b"]" * 3_000_000 + _STOP,
        # A deep tuple as a key: Python's hash of it would end this process
        _START + b"})" + b"\x85" * 150_000 + b"Ns" + _STOP,
        # Nothing at all, and half of something
        b"",
        pickle.dumps({"a": 1})[:-3],
    ],
)
def test_what_no_pickler_writes_is_refused_at_once(pickled: bytes) -> None:
    began = time.monotonic()
    with pytest.raises(DeserializationError):
        _read(pickled)
    assert time.monotonic() - began < 5


def test_a_place_in_memory_is_not_reserved_because_a_pickle_says_so() -> None:
    # Given thirty bytes for which the reader in C makes a table of 64 GiB
    pickled = _START + b"N" + b"r" + (2**32 - 1).to_bytes(4, "little") + _STOP
    # When they are read in a process that may have two, then it lives
    program = (
        "import resource, sys; from workers.overflow.modal_sdk.unpickling import restrict_unpickling as r; r();"
        "from modal import _serialization as s; resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30));"
        f"assert s.deserialize({pickled!r}, None) is None"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0


def test_what_an_exception_carries_beside_its_arguments_is_left_out() -> None:
    # Given an exception that is its own cause, and has an attribute of ours
    error = ValueError("v")
    vars(error).update(note="n", _overspill_origin="RESULT")
    read = _read(pickle.dumps(error, protocol=4))
    assert (type(read), read.args, vars(read)) == (ValueError, ("v",), {})


@pytest.mark.parametrize(
    "value",
    [
        None, True, 1, -1, 2**70, 1.5, "text", "\ud800", b"bytes", [1, [2]], (1,), (1, 2, 3, 4), {"a": {"b": None}},
        {"big": b"\0" * 300_000, "many": list(range(5_000))},
    ],
)  # fmt: skip
def test_plain_values_come_as_they_were_sent(value: Any) -> None:
    assert _read(_serialization.serialize(value)) == value


@pytest.mark.parametrize(
    "error", [ValueError("v"), OSError(5, "o"), KeyError("k"), TimeoutError(), AuthError("a"), ServiceError("s")]
)
def test_known_exceptions_come_as_they_were_raised(error: Exception) -> None:
    read = _read(_serialization.serialize(error))
    assert (type(read), read.args, str(read)) == (type(error), error.args, str(error))
