"""A reader of pickles that imports nothing and calls nothing that a file names.

``torch.load(weights_only=True)`` keeps a list of functions that a file may call. It still sets attributes on their
results, allocates sizes that the file states, and refuses every class that is not on the list. Here a pickle is data: a
name in it stays text, an object becomes a :class:`Stub` that holds its arguments and state, and the few calls that
tensors, arrays and containers need are functions of our own (:mod:`.pickled_calls`). So tensors next to objects of
any class can be read, and everything that a pickle can do is in this file: about forty operations on a stack.

Time and memory are bounded: each operation takes at least a byte of the file, their number is limited, and
everything that creates or copies more than a number or a text is charged to a budget of 64 MB and four times the size
of the pickle. The worst measured files at these limits take 180 MB besides the tensors (of 14 MB of
short texts; 140 MB of 1 MB of small dicts) and 8 s on a busy machine. A file that combines them can take twice that.
"""

import pickletools
from collections.abc import Callable
from typing import Any

from .stubs import ForeignCall, Name, Refused, Stub, clean_text, plain_key, shown

# An optimizer state of 1000 parameters needs about 100 000.
MAX_OPERATIONS = 2_000_000
OBJECT_COST = 200  # bytes: approximate size of a container or object here, and again when it is rebuilt
ITEM_COST = 100  # bytes: an entry of a dict
_ROOM = 64 * 2**20  # bytes: a file may describe 300 000 objects, whatever its size
_NAME_LENGTH = 200
_MAX_INT_BITS = 2048
_MARK = object()


Call = Callable[['Unpickler', tuple], Any]


class Unpickler:
    """Reads one pickle.

    Args:
        file: Binary file at the beginning of the pickle; ``read(n)`` must not give more than the file has.
        size: Bytes of the pickle, or of the file that contains it: the bound of what is built from it.
        calls: Name -> replacement of the call.
        build: Builds the object of a stub from its state.
        find_storage: Returns the storage of a persistent id.
    """

    def __init__(
        self,
        file: Any,
        size: int,
        calls: dict[str, Call],
        build: Callable[['Unpickler', Stub], None],
        find_storage: Callable[[tuple], Any],
    ) -> None:
        self.file = file
        self.calls = calls
        self.build = build
        self.find_storage = find_storage
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.names: dict[tuple[str, str], Name] = {}
        self.spent, self.may_spend = 0, 4 * size + _ROOM

    def load(self) -> Any:
        """Read up to the end of the pickle.

        Raises:
            Refused: If it is too large or requests something unsupported.
            Exception: Of any type if it is damaged.
        """
        for count, (operation, argument, _) in enumerate(pickletools.genops(self.file)):
            if count >= MAX_OPERATIONS:
                raise Refused(f'it consists of more than {MAX_OPERATIONS:,} objects')
            _OPERATIONS[operation.name](self, argument)
        return self.stack.pop()

    def spend(self, size: int) -> None:
        """Account for ``size`` bytes that are created or copied: one byte of the file could request hundreds."""
        self.spent += size
        if self.spent > self.may_spend:
            raise Refused('it would grow to many times its size')

    def spend_copy(self, content: Any) -> None:
        """Account for a copy of a container; other values are not copied."""
        if type(content) is dict:
            self.spend(ITEM_COST * len(content))
        elif type(content) in (list, tuple):
            self.spend(8 * len(content))

    def push_new(self, container: Any) -> None:
        """Put a new container on the stack."""
        self.spend(OBJECT_COST)
        self.stack.append(container)

    def name(self, module: Any, attribute: Any) -> Name:
        """The name ``module.attribute``; one object per name."""
        if type(attribute) is not str or type(module) is not str:
            raise ValueError('a name that is not text')
        length = len(module) + len(attribute)
        if length > _NAME_LENGTH:
            raise Refused(f'a name of a class or function in it has {length:,} characters')
        if (module, attribute) not in self.names:
            self.spend(2 * OBJECT_COST + 4 * length)
            self.names[module, attribute] = Name(module, attribute)
        return self.names[module, attribute]

    # ---------------------------------------------------------------- steps of several operations
    def marked(self) -> list[Any]:
        """Pop everything after the last mark from the stack."""
        for place in range(len(self.stack) - 1, -1, -1):
            if self.stack[place] is _MARK:
                found = self.stack[place + 1 :]
                del self.stack[place:]
                return found
        raise ValueError('no mark')

    def call(self, function: Any, args: Any) -> Any:
        """The replacement for ``function(*args)``."""
        if isinstance(function, Stub):
            raise ForeignCall(function.name)
        if not isinstance(function, Name) or type(args) is not tuple:
            raise ValueError('a call of something that is not a function')
        if function.text not in self.calls:
            raise ForeignCall(function.text)
        self.spend(OBJECT_COST)
        return self.calls[function.text](self, args)

    def create(self, kind: Any, args: Any) -> Any:
        """The replacement for a new object of a class."""
        if not isinstance(kind, Name) or type(args) is not tuple:
            raise ValueError('an object of something that is not a class')
        self.spend(OBJECT_COST)
        return self.calls[kind.text](self, args) if kind.text in self.calls else Stub(kind.text, args)

    def extend(self, values: list[Any]) -> None:
        """Add to the list on the stack."""
        target = self.stack[-1]
        if isinstance(target, Stub):
            if target.entries is None:
                self.spend(OBJECT_COST)
                target.entries = []
            target = target.entries
        if type(target) is not list:
            raise ValueError('entries of something that is not a list')
        target.extend(values)

    def set_items(self, flat: list[Any]) -> None:
        """Add keys and values, one after the other, to the dict on the stack."""
        target = self.stack[-1]
        if isinstance(target, Stub):
            if target.items is None:
                self.spend(OBJECT_COST)
                target.items = {}
            target = target.items
        if type(target) is not dict or len(flat) % 2:
            raise ValueError('items of something that is not a dict')
        self.spend(ITEM_COST * (len(flat) // 2))
        for place in range(0, len(flat), 2):
            key = plain_key(flat[place])
            if key in target:
                raise Refused(f'two keys of a dict in it have the text {shown(str(key))}')
            target[key] = flat[place + 1]

    def set_state(self) -> None:
        """Put a state into the object on the stack."""
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, Stub):
            for part in state if type(state) is tuple and len(state) == 2 else (state,):
                self.spend_copy(part)  # copied with this object, also if other objects share it
            target.state = state
            self.build(self, target)
        elif type(target) is not dict:  # attributes of an OrderedDict are dropped
            raise Refused('it sets attributes of something other than an object')


# ---------------------------------------------------------------- the operations
def _push(machine: Unpickler, argument: Any) -> None:
    machine.stack.append(argument)


def _push_int(machine: Unpickler, argument: int) -> None:
    if argument.bit_length() > _MAX_INT_BITS:
        raise Refused(f'it holds a number of {argument.bit_length():,} bits')
    machine.stack.append(argument)


def _push_text(machine: Unpickler, argument: str) -> None:
    machine.stack.append(clean_text(argument))


def _put(machine: Unpickler, argument: int) -> None:
    machine.memo[argument] = machine.stack[-1]


def _get(machine: Unpickler, argument: int) -> None:
    machine.stack.append(machine.memo[argument])


def _push_name(machine: Unpickler, argument: str) -> None:
    machine.stack.append(machine.name(*argument.split(' ', 1)))


def _stack_name(machine: Unpickler, _: Any) -> None:
    attribute, module = machine.stack.pop(), machine.stack.pop()
    machine.stack.append(machine.name(module, attribute))


def _tuple_of(count: int) -> Callable[[Unpickler, Any], None]:
    def operation(machine: Unpickler, _: Any) -> None:
        if len(machine.stack) < count:
            raise ValueError('stack is empty')
        machine.spend(OBJECT_COST)
        machine.stack[-count:] = [tuple(machine.stack[-count:])]

    return operation


def _dict(machine: Unpickler, _: Any) -> None:
    flat = machine.marked()
    machine.push_new({})
    machine.set_items(flat)


def _setitem(machine: Unpickler, _: Any) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    machine.set_items([key, value])


def _reduce(machine: Unpickler, _: Any) -> None:
    args, function = machine.stack.pop(), machine.stack.pop()
    machine.stack.append(machine.call(function, args))


def _newobj(machine: Unpickler, _: Any) -> None:
    args, kind = machine.stack.pop(), machine.stack.pop()
    machine.stack.append(machine.create(kind, args))


def _newobj_ex(machine: Unpickler, _: Any) -> None:
    keywords, args, kind = machine.stack.pop(), machine.stack.pop(), machine.stack.pop()
    if type(args) is not tuple:
        raise ValueError('arguments that are not a tuple')
    machine.spend(8 * len(args))
    machine.stack.append(machine.create(kind, (*args, keywords)))


def _obj(machine: Unpickler, _: Any) -> None:
    kind, *args = machine.marked()
    machine.stack.append(machine.create(kind, tuple(args)))


def _inst(machine: Unpickler, argument: str) -> None:
    args = machine.marked()
    machine.stack.append(machine.create(machine.name(*argument.split(' ', 1)), tuple(args)))


def _storage(machine: Unpickler, _: Any) -> None:
    known = machine.stack.pop()
    if type(known) is not tuple:
        raise ValueError('a storage without description')
    machine.spend(4 * OBJECT_COST)  # becomes a tensor if no tensor uses it
    machine.stack.append(machine.find_storage(known))


_OPERATIONS: dict[str, Callable[[Unpickler, Any], Any]] = {
    'PROTO': lambda machine, argument: None,
    'FRAME': lambda machine, argument: None,
    'STOP': lambda machine, argument: None,
    **dict.fromkeys(['INT', 'BININT', 'BININT1', 'BININT2', 'LONG', 'LONG1', 'LONG4'], _push_int),
    **dict.fromkeys(['FLOAT', 'BINFLOAT', 'BINBYTES', 'SHORT_BINBYTES', 'BINBYTES8'], _push),
    **dict.fromkeys(['STRING', 'BINSTRING', 'SHORT_BINSTRING'], _push_text),
    **dict.fromkeys(['UNICODE', 'BINUNICODE', 'SHORT_BINUNICODE', 'BINUNICODE8'], _push_text),
    'BYTEARRAY8': lambda machine, argument: machine.stack.append(bytes(argument)),
    'NONE': lambda machine, argument: machine.stack.append(None),
    'NEWTRUE': lambda machine, argument: machine.stack.append(True),
    'NEWFALSE': lambda machine, argument: machine.stack.append(False),
    'EMPTY_DICT': lambda machine, argument: machine.push_new({}),
    'EMPTY_TUPLE': lambda machine, argument: machine.stack.append(()),
    **dict.fromkeys(['EMPTY_LIST', 'EMPTY_SET'], lambda machine, argument: machine.push_new([])),
    'MARK': lambda machine, argument: machine.stack.append(_MARK),
    'POP': lambda machine, argument: machine.stack.pop(),
    'POP_MARK': lambda machine, argument: machine.marked(),
    'DUP': lambda machine, argument: machine.stack.append(machine.stack[-1]),
    'TUPLE': lambda machine, argument: machine.push_new(tuple(machine.marked())),
    'TUPLE1': _tuple_of(1),
    'TUPLE2': _tuple_of(2),
    'TUPLE3': _tuple_of(3),
    **dict.fromkeys(['LIST', 'FROZENSET'], lambda machine, argument: machine.push_new(machine.marked())),
    'DICT': _dict,
    'APPEND': lambda machine, argument: machine.extend([machine.stack.pop()]),
    **dict.fromkeys(['APPENDS', 'ADDITEMS'], lambda machine, argument: machine.extend(machine.marked())),
    'SETITEM': _setitem,
    'SETITEMS': lambda machine, argument: machine.set_items(machine.marked()),
    **dict.fromkeys(['PUT', 'BINPUT', 'LONG_BINPUT'], _put),
    **dict.fromkeys(['GET', 'BINGET', 'LONG_BINGET'], _get),
    'MEMOIZE': lambda machine, argument: _put(machine, len(machine.memo)),
    'GLOBAL': _push_name,
    'STACK_GLOBAL': _stack_name,
    'REDUCE': _reduce,
    'NEWOBJ': _newobj,
    'NEWOBJ_EX': _newobj_ex,
    'OBJ': _obj,
    'INST': _inst,
    'BUILD': lambda machine, argument: machine.set_state(),
    'BINPERSID': _storage,
}
