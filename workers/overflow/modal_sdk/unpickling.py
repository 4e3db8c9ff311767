"""What the SDK may unpickle in this process: plain values, and exceptions of Python's builtins and of Modal.

A container's returned value, the exception that it raised, an item of a Queue, and a key or a value of a Dict are all
pickles that somebody else has written. A pickle is a program: it may import and call whatever it can name. So this
process reads them with a reader that knows few instructions and few names. It is written in Python: the one in C
makes a table as large as the pickle asks for (64 GiB for thirty bytes). A container keeps the SDK's full reader.
"""

import asyncio
import builtins
import importlib
import pickle
from dataclasses import dataclass
from typing import Any

from modal import _serialization
from modal import exception as modal_exception
from modal._utils import function_utils
from modal.exception import DeserializationError

from workers.overflow.modal_sdk.port import ForbiddenPickle

# (`modal.Queue` and `modal.Dict` hide the modules of the same names only in capitals.)
modal_queue, modal_dict = importlib.import_module("modal.queue"), importlib.import_module("modal.dict")

#: What a pickle may name. (Plain values need no name: each has an instruction of its own.)
_NAMES: dict[tuple[str, str], type[BaseException]] = {
    **{
        ("builtins", name): found
        for name, found in vars(builtins).items()
        if isinstance(found, type) and issubclass(found, BaseException)
    },
    **{
        ("modal.exception", name): found
        for name, found in vars(modal_exception).items()
        if isinstance(found, type) and issubclass(found, BaseException) and found.__module__ == "modal.exception"
    },
    ("asyncio.exceptions", "CancelledError"): asyncio.CancelledError,
}

#: Instructions that make plain values, or an exception by its name and arguments. What is left out looks other things
#: up (persistent ids, the extension registry), makes instances in other ways, makes sets (see `_checked_key`), or
#: reserves memory for data that has not come (bytearrays, buffers).
_OPCODES = frozenset(
    opcode[0]
    for opcode in (
        *(pickle.PROTO, pickle.FRAME, pickle.STOP, pickle.MARK, pickle.POP, pickle.POP_MARK),
        *(pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE),
        *(pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG1, pickle.LONG4, pickle.BINFLOAT),
        *(pickle.BINUNICODE, pickle.SHORT_BINUNICODE, pickle.BINUNICODE8),
        *(pickle.BINBYTES, pickle.SHORT_BINBYTES, pickle.BINBYTES8),
        *(pickle.EMPTY_TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3, pickle.TUPLE),
        *(pickle.EMPTY_LIST, pickle.APPEND, pickle.APPENDS, pickle.EMPTY_DICT, pickle.SETITEM, pickle.SETITEMS),
        *(pickle.BINGET, pickle.LONG_BINGET, pickle.BINPUT, pickle.LONG_BINPUT, pickle.MEMOIZE),
        *(pickle.STACK_GLOBAL, pickle.REDUCE, pickle.BUILD),
    )
)
#: Instructions of one pickle, at most: each may make an object of some sixty bytes out of one byte.
MOST_INSTRUCTIONS = 200_000

_python: Any = pickle  # its reader in Python has no public name


class PlainUnpickler(_python._Unpickler):  # type: ignore[misc]
    """Reads plain values and known exceptions. In place of the SDK's own `Unpickler`, with its signature."""

    def __init__(self, client: object, buf: Any) -> None:
        self.client = client
        super().__init__(buf)

    def load(self) -> Any:
        """The value.

        Raises:
            ForbiddenPickle: there is something else in it.
            Exception: it is no pickle.
        """
        self._unframer = _python._Unframer(self._file_read, self._file_readline)
        self.read, self.readinto = self._unframer.read, self._unframer.readinto
        self.readline = self._unframer.readline
        self.metastack: list[Any] = []
        self.stack: list[Any] = []
        self.append = self.stack.append
        self.proto = 0
        read, dispatch = self.read, self.dispatch
        try:
            for _ in range(MOST_INSTRUCTIONS):
                key = read(1)
                if not key:
                    raise EOFError
                if key[0] not in _OPCODES:
                    raise ForbiddenPickle(f"the instruction {key!r}")
                dispatch[key[0]](self)
        except _python._Stop as stop:
            return stop.value
        raise ForbiddenPickle(f"more than {MOST_INSTRUCTIONS} instructions")

    def find_class(self, module: object, name: object) -> type[BaseException]:
        """The exception of that name.

        Raises:
            ForbiddenPickle: any other name.
        """
        found = _NAMES.get((module, name)) if isinstance(module, str) and isinstance(name, str) else None
        if found is None:
            raise ForbiddenPickle(f"{module!s:.100}.{name!s:.100}")
        return found

    def load_reduce(self) -> None:
        """An exception by its arguments; nothing else is called."""
        arguments = self.stack.pop()
        called = self.stack[-1]
        if not (isinstance(called, type) and issubclass(called, BaseException) and isinstance(arguments, tuple)):
            raise ForbiddenPickle("a call of something else")
        self.stack[-1] = called(*arguments)

    def load_build(self) -> None:
        """Attributes beside an exception's arguments are left out: they may be any (`__cause__`, `__traceback__`)."""
        self.stack.pop()
        if not isinstance(self.stack[-1], BaseException):
            raise ForbiddenPickle("attributes of something else")

    def load_setitem(self) -> None:
        """One item of a dict."""
        value = self.stack.pop()
        key = self.stack.pop()
        self.stack[-1][_checked_key(key)] = value

    def load_setitems(self) -> None:
        """Some items of a dict."""
        items = self.pop_mark()
        found = self.stack[-1]
        for key, value in zip(items[::2], items[1::2], strict=True):
            found[_checked_key(key)] = value

    dispatch = {  # noqa: RUF012 - as the base class has it
        **_python._Unpickler.dispatch,
        pickle.REDUCE[0]: load_reduce,
        pickle.BUILD[0]: load_build,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
    }


def _checked_key(key: object) -> object:
    """A dict's key. A tuple is none: Python hashes nested ones by recursion, and a deep one ends the process."""
    if not isinstance(key, str | bytes | int | float | bool | None):
        raise ForbiddenPickle(f"a key of type {type(key).__name__}")
    return key


@dataclass(frozen=True)
class Unreadable:
    """What stands for an item of a Queue, or a key or value of a Dict, that this process does not unpickle."""

    reason: str


def restrict_unpickling() -> None:
    """From here on, the SDK in this process unpickles plain values and known exceptions only. Once is enough.

    Everything that the SDK unpickles goes through one function, which finds its reader by name. An item of a Queue or a
    Dict that cannot be read comes back as `Unreadable`: raised, it would take all others of its batch with it.

    Remote tracebacks are left out: the SDK would compile as many lines as they say, and run them in the globals that
    they bring.
    """
    sdk: Any = _serialization
    utils: Any = function_utils
    sdk.Unpickler = PlainUnpickler
    utils.append_modal_tb = _no_traceback
    modules: tuple[Any, ...] = (modal_queue, modal_dict)
    for module in modules:
        module.deserialize = _one_item


def _one_item(pickled: bytes, client: Any) -> Any:
    try:
        return _serialization.deserialize(pickled, client)
    except DeserializationError as error:
        return Unreadable(str(error.__cause__ or error))


def _no_traceback(*_: object) -> None:
    """In place of the SDK's function that gives a remote exception its traceback."""
