"""A pickle -> plain values, without running it.

The opcodes are interpreted here, so that a file can make containers, numbers and text, what the caller's own makers return, and
otherwise only a note of what it asked for. Nothing that a pickle names is imported or called.
"""

from __future__ import annotations

import pickle
import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

_MOST_STEPS = 30_000_000
"""Opcodes of a pickle: those of a million tensors."""

_LARGEST_KEY = 64
"""Parts of a key that is a tuple, those of tuples in it included."""

_LONGEST_NAME = 200

_SMALL = 10_000

_MARK = object()


@dataclass(frozen=True)
class Named:
    """A class or function that a pickle names.

    Attributes:
        module: Its module, as the file says.
        name: Its name in the module.
    """

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module.replace('__builtin__', 'builtins')}.{self.name}"


def named(value: Any) -> str:
    """What a sentence calls a value of a pickle: never its text, which can be without end where parts are shared."""
    return str(value)[:_LONGEST_NAME] if isinstance(value, (str, Named)) else f"a {type(value).__name__}"


@dataclass(eq=False)
class Made:
    """What a pickle would have made by calling something that is not known here; nothing was called.

    Attributes:
        of: What would have been called.
        items: Entries that it would have been given, if it is a mapping.
        values: Values that it would have been given, if it is a list.
        state: Its attributes, as stored.
    """

    of: Any
    items: dict[Any, Any] = field(default_factory=dict)
    values: list[Any] = field(default_factory=list)
    state: Any = None

    def __repr__(self) -> str:
        return f"Made({named(self.of)})"


Maker = Callable[..., Any]


def read_pickle(
    stream: IO[bytes],
    *,
    makers: Mapping[Named, Maker],
    persistent: Callable[[Any], Any] | None = None,
    on_name: Callable[[Named], None] | None = None,
) -> Any:
    """Interprets one pickle, and leaves the stream behind it.

    Args:
        stream: Where the pickle begins.
        makers: What is called in place of a name, with the arguments that the file gives, which may be of any kind.
        persistent: Called with each persistent identifier.
        on_name: Called with each name that comes.

    Returns:
        Numbers, texts, bytes, None, lists, tuples, dicts and sets; ``Named``; ``Made``; and what makers return.

    Raises:
        pickle.UnpicklingError: not a pickle, a damaged one, or one without end.
    """
    try:
        return _Machine({**_PLAIN, **makers}, persistent, on_name).run(stream)
    except (IndexError, KeyError, TypeError, ValueError, AttributeError, OverflowError, MemoryError) as error:
        raise pickle.UnpicklingError(f"damaged pickle: {type(error).__name__} {error}") from None


def _dict_of(*given: Any) -> dict[Any, Any]:
    return {_key(key): value for key, value in (given[0].items() if isinstance(given[0], dict) else given[0])} if given else {}


def _encoded(text: str, encoding: str = "utf-8") -> bytes:
    return text.encode("latin-1" if encoding in ("latin1", "latin-1") else "utf-8")


def _elements(values: Any = ()) -> Any:
    return {_key(value) for value in values}


_PLAIN: dict[Named, Maker] = {
    Named("collections", "OrderedDict"): _dict_of,
    Named("collections", "Counter"): _dict_of,
    Named("collections", "defaultdict"): lambda *_: {},
    Named("_codecs", "encode"): _encoded,
    **{Named(module, name): _elements for module in ("builtins", "__builtin__") for name in ("set", "frozenset")},
    **{Named(module, "complex"): complex for module in ("builtins", "__builtin__")},
}
"""Containers and numbers that pickles make by a call."""


def _key(value: Any) -> Any:
    """A value that may be looked up. Tuples are small when written out: their hash visits a part as often as it is shared."""
    left = [value]
    for part in left:
        if isinstance(part, tuple):
            left += part
            if len(left) > _LARGEST_KEY:
                raise ValueError("a key of nested tuples")
    return value


class _Machine:
    """Stack and memo of one pickle."""

    def __init__(
        self, makers: Mapping[Named, Maker], persistent: Callable[[Any], Any] | None, on_name: Callable[[Named], None] | None
    ) -> None:
        self._makers, self._persistent, self._on_name = makers, persistent, on_name
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._position, self._copied = 0, 0

    def run(self, stream: IO[bytes]) -> Any:
        for number, (opcode, argument, position) in enumerate(pickletools.genops(stream)):
            if number > _MOST_STEPS:
                raise pickle.UnpicklingError("a pickle of too many steps")
            self._position = position or 0
            if opcode.name == "STOP":
                return self._stack.pop()
            if opcode.name in _VALUES:
                self._stack.append(argument)
            elif step := _STEPS.get(opcode.name):
                step(self, argument)
            else:
                raise pickle.UnpicklingError(f"opcode {opcode.name}")
        raise pickle.UnpicklingError("a pickle without end")

    # Steps: each is called with the opcode's argument.

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _to_mark(self) -> list[Any]:
        for place in range(len(self._stack) - 1, -1, -1):
            if self._stack[place] is _MARK:
                values = self._stack[place + 1 :]
                del self._stack[place:]
                return values
        raise pickle.UnpicklingError("no mark")

    def _tuple(self, count: int) -> None:
        if len(self._stack) < count:
            raise IndexError("stack")
        values = tuple(self._stack[len(self._stack) - count :])
        del self._stack[len(self._stack) - count :]
        self._push(values)

    def _dict(self, _argument: Any) -> None:
        values = self._to_mark()
        self._push({_key(key): value for key, value in zip(values[::2], values[1::2], strict=True)})

    def _set_items(self, values: list[Any]) -> None:
        target = self._stack[-1]
        items = target.items if isinstance(target, Made) else target
        if type(items) is not dict:
            raise TypeError("items of what is not a mapping")
        items.update((_key(key), value) for key, value in zip(values[::2], values[1::2], strict=True))

    def _set_item(self, _argument: Any) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._set_items([key, value])

    def _append(self, values: list[Any]) -> None:
        target = self._stack[-1]
        given = target.values if isinstance(target, Made) else target
        if type(given) is set:
            given.update(_key(value) for value in values)
        elif type(given) is list:
            given.extend(values)
        else:
            raise TypeError("values of what is not a list")

    def _append_one(self, _argument: Any) -> None:
        value = self._stack.pop()
        self._append([value])

    def _put(self, place: int) -> None:
        self._memo[int(place)] = self._stack[-1]

    def _memoize(self, _argument: Any) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _get(self, place: int) -> None:
        self._push(self._memo[int(place)])

    def _name(self, module: Any, name: Any) -> Named:
        if not (isinstance(module, str) and isinstance(name, str)):
            raise TypeError("a name that is not text")
        named = Named(module, name)
        if self._on_name:
            self._on_name(named)
        return named

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._push(self._name(module, name))

    def _stack_global(self, _argument: Any) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._push(self._name(module, name))

    def _call(self, of: Any, arguments: Any) -> None:
        if not isinstance(arguments, (tuple, list)):
            raise TypeError("arguments that are no tuple")
        maker = self._makers.get(of) if isinstance(of, Named) else None
        if maker:  # what it copies was read before, once: who asks for copies of copies asks for memory without end
            self._copied += sum(len(value) for value in arguments if isinstance(value, (str, list, tuple, dict, set)))
            if self._copied > self._position + _SMALL:
                raise pickle.UnpicklingError("a pickle of copies without end")
        if not isinstance(of, (Named, Made)):
            raise TypeError(f"a call of {named(of)}")
        self._push(maker(*arguments) if maker else Made(of))

    def _reduce(self, _argument: Any) -> None:
        arguments, of = self._stack.pop(), self._stack.pop()
        self._call(of, arguments)

    def _new_with_names(self, _argument: Any) -> None:
        _, arguments, of = self._stack.pop(), self._stack.pop(), self._stack.pop()
        self._call(of, arguments)

    def _instance(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        named = self._name(module, name)
        self._call(named, self._to_mark())

    def _object(self, _argument: Any) -> None:
        of, *arguments = self._to_mark()
        self._call(of, arguments)

    def _build(self, _argument: Any) -> None:
        state = self._stack.pop()
        if isinstance(self._stack[-1], Made):
            self._stack[-1].state = state

    def _persist(self, identifier: Any) -> None:
        if self._persistent is None:
            raise ValueError("a persistent identifier")
        self._push(self._persistent(identifier))

    def _pop(self, _argument: Any) -> None:
        self._stack.pop()

    def _nothing(self, _argument: Any) -> None:
        pass


_VALUES = frozenset(
    {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
    | {"STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"}
    | {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
)
"""Opcodes whose argument is the value."""

_STEPS: dict[str, Callable[[_Machine, Any], Any]] = {
    "NONE": lambda m, _: m._push(None),
    "NEWTRUE": lambda m, _: m._push(True),
    "NEWFALSE": lambda m, _: m._push(False),
    "MARK": lambda m, _: m._push(_MARK),
    "EMPTY_LIST": lambda m, _: m._push([]),
    "EMPTY_TUPLE": lambda m, _: m._push(()),
    "EMPTY_DICT": lambda m, _: m._push({}),
    "EMPTY_SET": lambda m, _: m._push(set()),
    "LIST": lambda m, _: m._push(m._to_mark()),
    "TUPLE": lambda m, _: m._push(tuple(m._to_mark())),
    "FROZENSET": lambda m, _: m._push(_elements(m._to_mark())),
    "DICT": _Machine._dict,
    "TUPLE1": lambda m, _: m._tuple(1),
    "TUPLE2": lambda m, _: m._tuple(2),
    "TUPLE3": lambda m, _: m._tuple(3),
    "APPEND": _Machine._append_one,
    "APPENDS": lambda m, _: m._append(m._to_mark()),
    "ADDITEMS": lambda m, _: m._append(m._to_mark()),
    "SETITEM": _Machine._set_item,
    "SETITEMS": lambda m, _: m._set_items(m._to_mark()),
    "POP": _Machine._pop,
    "POP_MARK": lambda m, _: m._to_mark(),
    "DUP": lambda m, _: m._push(m._stack[-1]),
    "PUT": _Machine._put,
    "BINPUT": _Machine._put,
    "LONG_BINPUT": _Machine._put,
    "MEMOIZE": _Machine._memoize,
    "GET": _Machine._get,
    "BINGET": _Machine._get,
    "LONG_BINGET": _Machine._get,
    "GLOBAL": _Machine._global,
    "STACK_GLOBAL": _Machine._stack_global,
    "REDUCE": _Machine._reduce,
    "NEWOBJ": _Machine._reduce,
    "NEWOBJ_EX": _Machine._new_with_names,
    "INST": _Machine._instance,
    "OBJ": _Machine._object,
    "BUILD": _Machine._build,
    "BINPERSID": lambda m, _: m._persist(m._stack.pop()),
    "PERSID": _Machine._persist,
    "PROTO": _Machine._nothing,
    "FRAME": _Machine._nothing,
}
