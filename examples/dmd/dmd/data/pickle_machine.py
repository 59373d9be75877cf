"""A pickle is a program; this machine runs the harmless part of that language, and refuses the rest by name.

Python's own unpickler imports what a file names, believes the sizes that it declares, and builds values that hold each
other until printing one takes for ever. Here `pickletools` reads the operations, nothing is imported, nothing is called
but the makers that the caller gives, and memory, nesting and sharing are limited by what the file itself holds.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterable, Mapping
from pickle import UnpicklingError
from typing import Any, BinaryIO

from .pickle_limits import DEEPEST, BoundedFile, check_unfolded, key_of, number

FREE_BYTES = 2**23  # what a file of any size may use
MEMORY_FACTOR = 20  # bytes of memory for a byte of the file: a tuple with one number takes 4 bytes there, 64 here
SHARING_FACTOR = 8  # how often a file may use all that it holds; a split used three times is welcome

Maker = Callable[["Machine", tuple[Any, ...]], Any]


class Pending:
    """A value whose content follows in the file; `build` makes it of that."""

    def __init__(self, build: Callable[[Any], Any]) -> None:
        self.build = build
        self.places: list[int] = []  # where the file keeps it


class Name:
    """A name that the file may call, and nothing that it could call itself."""

    def __init__(self, text: str, make: Maker) -> None:
        self.text, self.make = text, make


class Machine:
    """Reads one pickle.

    Args:
        file: the pickle, with what lies behind it; read up to the pickle's end.
        num_bytes: how many bytes are left in `file`.
        makers: (module, name) -> the function that stands in for it, called with this machine and the arguments.
        persistent: makes a value of a persistent id; by default those are refused.
        ignores_state: drop what a dict is to carry beside its items, as `OrderedDict` may, instead of refusing it.
    """

    def __init__(
        self,
        file: BinaryIO,
        num_bytes: int,
        makers: Mapping[tuple[str, str], Maker],
        *,
        persistent: Callable[[Any], Any] | None = None,
        ignores_state: bool = False,
    ) -> None:
        self.file = BoundedFile(file, num_bytes)
        self.budget = FREE_BYTES + MEMORY_FACTOR * num_bytes
        self.most_unfolded = FREE_BYTES + SHARING_FACTOR * num_bytes
        self.names = {key: Name(".".join(key), make) for key, make in makers.items()}
        self.persistent, self.ignores_state = persistent, ignores_state
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.num_pending = 0

    def load(self) -> Any:
        """The value of the pickle.

        Raises:
            Exception: of any kind, if the file is damaged or asks for what is refused.
        """
        for opcode, argument, _ in pickletools.genops(self.file):
            name = opcode.name
            if name in _PUSHED:
                self.stack.append(number(argument) if isinstance(argument, int) else argument)
            elif name in _CONSTANTS:
                self.stack.append(_CONSTANTS[name])
            elif name in _OPERATIONS:
                _OPERATIONS[name](self, argument)
            else:
                raise UnpicklingError(f"the pickle operation {name} is refused")
        if len(self.stack) != 1 or self.marked:
            raise UnpicklingError("the pickle ends with values left over")
        if self.num_pending:
            raise UnpicklingError("the pickle ends before all its arrays are filled")
        check_unfolded(self.stack[0], self.most_unfolded)
        return self.stack[0]

    def spend(self, num_bytes: int) -> None:
        """Account for memory beyond the file's own bytes."""
        self.budget -= num_bytes
        if self.budget < 0:
            raise UnpicklingError("the pickle builds far more than a file of its size holds")

    def mark(self, _: None) -> None:
        if len(self.marked) > 2 * DEEPEST:  # a dict or tuple that is being written has one mark
            raise UnpicklingError(f"the values are nested deeper than {DEEPEST}")
        self.marked.append(self.stack)
        self.stack = []

    def popped_mark(self) -> list[Any]:
        """All values since the last mark."""
        if not self.marked:
            raise UnpicklingError("the pickle ends a container that it has not begun")
        items, self.stack = self.stack, self.marked.pop()
        return items

    def pop(self) -> Any:
        if not self.stack:
            raise UnpicklingError("the pickle takes more values than there are")
        return self.stack.pop()

    def put(self, place: int | None) -> None:
        place = len(self.memo) if place is None else int(place)
        if not 0 <= place <= len(self.memo) + 1:  # pickles number what they keep as it comes
            raise UnpicklingError(f"the pickle keeps value {len(self.memo)} in a place far from it")
        value = self.pop()
        self.stack.append(value)
        self.memo[place] = value
        if isinstance(value, Pending):
            value.places.append(place)

    def get(self, place: int) -> None:
        if place not in self.memo or isinstance(self.memo[place], Pending):
            raise UnpicklingError("the pickle uses a value before it is complete")
        self.stack.append(self.memo[place])

    def find(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.push_name(module, name)

    def find_from_stack(self, _: None) -> None:
        name, module = self.pop(), self.pop()
        self.push_name(module, name)

    def push_name(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise UnpicklingError("the pickle names something by what is no text")
        if (module, name) not in self.names:
            # Arrays that were pickled with protocol 5 name _frombuffer: harmless, but the fix is easy to say.
            hint = "; save the file with pickle protocol 4" if name == "_frombuffer" else ""
            raise UnpicklingError(f"refused to load {module[:80]}.{name[:80]}{hint}")
        self.stack.append(self.names[module, name])

    def refuse_instance(self, argument: str) -> None:
        raise UnpicklingError(f"refused to load {argument.replace(' ', '.')[:160]}")

    def reduce(self, _: None) -> None:
        arguments, name = self.pop(), self.pop()
        if not isinstance(name, Name) or not isinstance(arguments, tuple):
            raise UnpicklingError("the pickle calls something that is no name")
        self.spend(64)
        value = name.make(self, arguments)
        self.num_pending += isinstance(value, Pending)
        self.stack.append(value)

    def build(self, _: None) -> None:
        state, value = self.pop(), self.pop()
        if isinstance(value, Pending):
            built = value.build(state)
            self.num_pending -= 1
            self.memo.update(dict.fromkeys(value.places, built))
            value = built
        elif not (self.ignores_state and type(value) is dict and type(state) is dict):
            raise UnpicklingError(f"the pickle sets the state of a {type(value).__name__}")
        self.stack.append(value)

    def push_persistent(self, _: None) -> None:
        if self.persistent is None:
            raise UnpicklingError("the pickle refers to something outside itself (a persistent id)")
        self.stack.append(self.persistent(self.pop()))

    def push_new(self, kind: Callable[..., Any], items: Iterable[Any] = (), cost: int = 64) -> None:
        self.spend(cost)
        self.stack.append(kind(items))

    def push_last(self, size: int) -> None:
        items = [self.pop() for _ in range(size)]
        self.push_new(tuple, reversed(items))

    def fill(self, kind: type, items: list[Any]) -> None:
        """Put items into the list, dict or set on top of the stack."""
        target = self.pop()
        if type(target) is not kind:
            raise UnpicklingError(f"the pickle fills a {type(target).__name__} as if it were a {kind.__name__}")
        if kind is dict:
            keys, values = items[::2], items[1::2]
            if len(keys) != len(values):
                raise UnpicklingError("the pickle gives a key without a value")
            target.update(zip(map(key_of, keys), values, strict=True))
        elif kind is set:
            target.update(map(key_of, items))
        else:
            target.extend(items)
        self.stack.append(target)

    def fill_last(self, kind: type, size: int) -> None:
        items = [self.pop() for _ in range(size)]
        self.fill(kind, items[::-1])

    def push_dict(self, _: None) -> None:
        items = self.popped_mark()
        self.push_new(dict, cost=80)
        self.fill(dict, items)


_PUSHED = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_OPERATIONS: dict[str, Callable[[Machine, Any], None]] = {
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda machine, argument: None),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), Machine.put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), Machine.get),
    "MARK": Machine.mark,
    "EMPTY_LIST": lambda machine, _: machine.push_new(list),
    "EMPTY_DICT": lambda machine, _: machine.push_new(dict, cost=80),
    "EMPTY_SET": lambda machine, _: machine.push_new(set, cost=224),
    "LIST": lambda machine, _: machine.push_new(list, machine.popped_mark()),
    "TUPLE": lambda machine, _: machine.push_new(tuple, machine.popped_mark()),
    "TUPLE1": lambda machine, _: machine.push_last(1),
    "TUPLE2": lambda machine, _: machine.push_last(2),
    "TUPLE3": lambda machine, _: machine.push_last(3),
    "DICT": Machine.push_dict,
    "FROZENSET": lambda machine, _: machine.push_new(frozenset, map(key_of, machine.popped_mark()), cost=224),
    "APPEND": lambda machine, _: machine.fill_last(list, 1),
    "APPENDS": lambda machine, _: machine.fill(list, machine.popped_mark()),
    "SETITEM": lambda machine, _: machine.fill_last(dict, 2),
    "SETITEMS": lambda machine, _: machine.fill(dict, machine.popped_mark()),
    "ADDITEMS": lambda machine, _: machine.fill(set, machine.popped_mark()),
    "GLOBAL": Machine.find,
    "STACK_GLOBAL": Machine.find_from_stack,
    "INST": Machine.refuse_instance,
    "REDUCE": Machine.reduce,
    "BUILD": Machine.build,
    "BINPERSID": Machine.push_persistent,
}
