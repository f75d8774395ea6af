"""Reading a pickle without running it.

A pickle is a program for a small stack machine. Python's own machine imports whatever the program names and calls it,
which is how a weights file runs code. This one imports nothing and calls nothing: it knows plain values, containers,
tensors and numpy arrays; any other class becomes an inert `Record`; and a program that names something which would
run code in Python's machine is refused, so that nobody passes such a file on.

The opcodes and their arguments come from the standard library's `pickletools`.
"""

import pickletools
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO, Any, Protocol, cast

from resnetkit.errors import CheckpointError, UnsafeFile


class _Stream(Protocol):
    """What the machine reads from; `mmap` and `io.BytesIO` never give more bytes than there are."""

    def read(self, size: int, /) -> bytes: ...

    def readline(self) -> bytes: ...

    def tell(self) -> int: ...


@dataclass(frozen=True)
class Name:
    """A class or function that a pickle names; never imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class Record:
    """An object of a class that is not ours to know: what it was made from and the state it was given."""

    kind: Name
    arguments: tuple[Any, ...] = ()
    state: Any = None
    items: list[Any] = field(default_factory=list)
    entries: dict[Any, Any] = field(default_factory=dict)


Constructor = Callable[..., Any]
"""makes a value from the arguments that a pickle gives; part of resnetkit, never of the file"""

_MARK = object()
_LONGEST_PROGRAM = 20_000_000  # opcodes; resnet1202's checkpoint has 140,000

# Whoever names something of these modules wants code to run, or could make it run.
_RUNS_CODE = frozenset((
    "os", "posix", "nt", "ntpath", "posixpath", "sys", "subprocess", "_posixsubprocess", "pty", "shutil", "socket",
    "ssl", "ctypes", "_ctypes", "cffi", "importlib", "imp", "_imp", "pkgutil", "zipimport", "runpy", "code",
    "codeop", "codecs", "dis", "inspect", "pdb", "bdb", "timeit", "trace", "profile", "cProfile", "doctest",
    "unittest", "webbrowser", "http", "urllib", "urllib2", "urllib3", "requests", "httpx", "ftplib", "smtplib",
    "poplib", "imaplib", "telnetlib", "xmlrpc", "asyncio", "multiprocessing", "concurrent", "threading", "_thread",
    "signal", "faulthandler", "tempfile", "pickle", "_pickle", "cPickle", "marshal", "shelve", "dbm", "sqlite3",
    "dill", "cloudpickle", "joblib", "types", "operator", "_operator", "atexit", "popen2", "commands", "site",
    "venv", "ensurepip", "pip", "setuptools", "pkg_resources", "distutils", "pydoc", "idlelib", "lib2to3", "test",
    "io", "_io", "fileinput", "linecache", "py_compile", "compileall", "pytest", "IPython",
))  # fmt: skip
_BUILTINS = ("builtins", "__builtin__", "__builtins__")
_HARMLESS_BUILTINS = frozenset((
    "set", "frozenset", "dict", "list", "tuple", "int", "float", "complex", "str", "unicode", "long", "bytes",
    "bytearray", "bool", "slice", "range", "xrange", "object", "type", "getattr", "print",
))  # fmt: skip
# Classes with lower-case names, and functions that only make a value. Calling any other function is refused.
_MAKES_A_VALUE = frozenset((
    "datetime.datetime", "datetime.date", "datetime.time", "datetime.timedelta", "datetime.timezone",
    "collections.deque", "functools.partial", "array.array", "array._array_reconstructor", "torch.device",
))  # fmt: skip
_MAKES_AN_OBJECT = ("copyreg._reconstructor", "copy_reg._reconstructor", "copyreg.__newobj__")


def unpickle(
    stream: _Stream, constructors: dict[str, Constructor], persistent: Callable[[Any], Any] | None = None
) -> Any:
    """The value of the next pickle in `stream`, which is left behind its last opcode.

    `constructors` maps names (`collections.OrderedDict`) to what is called in their place; `persistent` resolves
    references to what lies outside of the pickle, such as a tensor's storage. Raises `UnsafeFile` for a pickle that
    would run code and `CheckpointError` for one that is damaged.
    """
    machine = _Machine(constructors, persistent)
    try:
        with warnings.catch_warnings(action="ignore"):  # about escapes in a damaged file's text
            for count, (opcode, argument, _) in enumerate(pickletools.genops(cast(IO[bytes], stream))):
                if count > _LONGEST_PROGRAM:
                    raise CheckpointError(
                        f"its pickle has over {_LONGEST_PROGRAM:,} instructions: it is no weights file"
                    )
                machine.step(opcode.name, argument)
            return machine.result()
    except CheckpointError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise CheckpointError(f"its pickle is damaged ({reason}): fetch the file again") from error


class _Machine:
    """The stack machine; one method a family of opcodes."""

    def __init__(self, constructors: dict[str, Constructor], persistent: Callable[[Any], Any] | None) -> None:
        self.constructors = constructors
        self.persistent = persistent
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def result(self) -> Any:
        if len(self.stack) != 1 or self.stack[0] is _MARK:
            raise ValueError("it leaves no single value")
        return self.stack[0]

    def step(self, opcode: str, argument: Any) -> None:
        stack = self.stack
        match opcode:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(opcode == "NEWTRUE")
            case "MARK":
                stack.append(_MARK)
            case "POP":
                stack.pop()
            case "POP_MARK":
                self._since_mark()
            case "DUP":
                stack.append(stack[-1])
            case "EMPTY_LIST" | "EMPTY_DICT" | "EMPTY_SET":
                stack.append({"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": set}[opcode]())
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                size = int(opcode[-1])
                stack.append(tuple(self._pop(size)))
            case "TUPLE":
                stack.append(tuple(self._since_mark()))
            case "LIST":
                stack.append(self._since_mark())
            case "DICT":
                stack.append(dict(_pairs(self._since_mark())))
            case "FROZENSET":
                stack.append(frozenset(_key(value) for value in self._since_mark()))
            case "APPEND":
                (value,) = self._pop(1)
                _extend(stack[-1], [value])
            case "APPENDS":
                values = self._since_mark()
                _extend(stack[-1], values)
            case "ADDITEMS":
                members = self._since_mark()
                _add(stack[-1], members)
            case "SETITEM":
                pair = self._pop(2)
                _update(stack[-1], pair)
            case "SETITEMS":
                pairs = self._since_mark()
                _update(stack[-1], pairs)
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self.memo[argument])
            case "GLOBAL":
                stack.append(_named(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                stack.append(_named(*self._pop(2)))
            case "REDUCE":
                stack.append(self._call(*self._pop(2)))
            case "NEWOBJ":
                kind, arguments = self._pop(2)
                stack.append(self._new(kind, arguments))
            case "NEWOBJ_EX":
                kind, arguments, _ = self._pop(3)
                stack.append(self._new(kind, arguments))
            case "INST":
                stack.append(self._call(_named(*argument.split(" ", 1)), tuple(self._since_mark())))
            case "OBJ":
                kind, *arguments = self._since_mark()
                stack.append(self._call(kind, tuple(arguments)))
            case "BUILD":
                (state,) = self._pop(1)
                _build(stack[-1], state)
            case "BINPERSID" | "PERSID":
                reference = argument if opcode == "PERSID" else self._pop(1)[0]
                if self.persistent is None:
                    raise CheckpointError(
                        "its pickle refers to data outside of it: save the file again with torch.save"
                    )
                stack.append(self.persistent(reference))
            case _ if argument is not None and opcode in _LITERALS:
                stack.append(argument)
            case _:
                raise CheckpointError(f"its pickle has the instruction {opcode}, which no weights file needs")

    def _pop(self, size: int) -> list[Any]:
        values = self.stack[-size:]
        if len(values) < size or any(value is _MARK for value in values):
            raise ValueError("its stack runs empty")
        del self.stack[-size:]
        return values

    def _since_mark(self) -> list[Any]:
        for place in range(len(self.stack) - 1, -1, -1):
            if self.stack[place] is _MARK:
                values = self.stack[place + 1 :]
                del self.stack[place:]
                return values
        raise ValueError("a mark is missing")

    def _call(self, function: Any, arguments: Any) -> Any:
        if not isinstance(function, Name):
            raise UnsafeFile(
                f"it would call a {_kind(function)} when loaded, which can run any code; nothing was run: "
                "do not trust its source"
            )
        if not isinstance(arguments, tuple):
            raise ValueError(f"arguments of {function} are no tuple")
        if constructor := self.constructors.get(str(function)):
            return constructor(*arguments)
        if str(function) in _MAKES_AN_OBJECT:
            return self._new(arguments[0], arguments[1:])
        if not _makes_a_value(function, arguments):
            raise _would_run(function)
        return Record(function, arguments)

    def _new(self, kind: Any, arguments: Any) -> Any:
        if not isinstance(kind, Name) or not isinstance(arguments, tuple):
            raise ValueError("an object without a class")
        constructor = self.constructors.get(str(kind))
        return constructor(*arguments) if constructor else Record(kind, arguments)


_LITERALS = frozenset((
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "STRING", "BINSTRING", "SHORT_BINSTRING",
    "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
    "BYTEARRAY8", "FLOAT", "BINFLOAT",
))  # fmt: skip


def _named(module: Any, name: Any) -> Name:
    if not isinstance(module, str) or not isinstance(name, str):
        raise ValueError("a name that is no text")
    found, root = Name(module, name), module.split(".")[0]
    if root in _BUILTINS:
        safe = name in _HARMLESS_BUILTINS or name.endswith(("Error", "Exception", "Warning"))
    else:
        safe = root not in _RUNS_CODE or str(found) == "types.SimpleNamespace"
    if not safe:
        raise _would_run(found)
    return found


def _makes_a_value(function: Name, arguments: tuple[Any, ...]) -> bool:
    """Whether calling this only makes an object, judged by its name: classes are written in capitals."""
    if function.module in _BUILTINS:
        # Python 3.11 writes a member of an enumeration as getattr(Colour, "RED").
        member = len(arguments) == 2 and isinstance(arguments[0], Name) and "__" not in str(arguments[1])
        return function.name != "print" and (function.name != "getattr" or member)
    rebuilds = function.module.startswith(("torch._utils", "numpy.random.")) and function.name.startswith("_")
    last = function.name.split(".")[-1].lstrip("_")
    return rebuilds or str(function) in _MAKES_A_VALUE or last[:1].isupper()


def _would_run(name: Name) -> UnsafeFile:
    return UnsafeFile(
        f"it would call {name} when loaded, which can run any code; nothing was run: do not trust its source"
    )


def _kind(value: Any) -> str:
    return str(value.kind) if isinstance(value, Record) else type(value).__name__


def _key(value: Any) -> Any:
    """A dictionary key. Deep tuples of tuples are turned away: hashing them can take for ever."""
    flat = (str, bytes, int, float, bool, type(None), complex, Name)
    if isinstance(value, Record):
        return id(value)
    if isinstance(value, flat) or (isinstance(value, tuple) and all(isinstance(part, flat) for part in value)):
        return value
    raise ValueError(f"a {type(value).__name__} as a key")


def _pairs(values: list[Any]) -> Iterator[tuple[Any, Any]]:
    if len(values) % 2:
        raise ValueError("a key without a value")
    for place in range(0, len(values), 2):
        yield _key(values[place]), values[place + 1]


def _extend(target: Any, values: list[Any]) -> None:
    if isinstance(target, Record):
        target.items.extend(values)
    elif isinstance(target, list):
        target.extend(values)
    else:
        raise ValueError(f"appends to a {type(target).__name__}")


def _add(target: Any, members: list[Any]) -> None:
    if not isinstance(target, set):
        raise ValueError(f"adds to a {type(target).__name__}")
    target.update(_key(member) for member in members)


def _update(target: Any, pairs: list[Any]) -> None:
    if isinstance(target, Record):
        target.entries.update(_pairs(pairs))
    elif isinstance(target, dict):
        target.update(_pairs(pairs))
    else:
        raise ValueError(f"sets an item of a {type(target).__name__}")


def _build(target: Any, state: Any) -> None:
    """State of a record is kept; an array takes its own; other values have none that matters."""
    if isinstance(target, Record):
        target.state = state
    elif hasattr(target, "take_state"):
        target.take_state(state)
