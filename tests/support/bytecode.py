"""What Lua 5.1's compiler makes of a source: how many locals and upvalues its functions have."""

import struct
from importlib import import_module
from typing import Any, NamedTuple


class Function(NamedTuple):
    """A function of a chunk, or the chunk itself: the line it starts at (0), most locals at a time, and upvalues."""

    line: int
    most_locals: int
    upvalues: int


def functions(source: str) -> list[Function]:
    """Compile a chunk and return its functions."""
    runtime: Any = import_module("lupa.lua51").LuaRuntime(encoding=None)
    compile_and_dump = runtime.eval("function(source) return string.dump(assert(loadstring(source))) end")
    return _Dump(compile_and_dump(source.encode())).functions


class _Dump:
    """What string.dump gives (lundump.c): after a header of 12 bytes, the chunk's function, which holds the others."""

    def __init__(self, dump: bytes) -> None:
        self._dump, self._position = dump, 12
        self.functions: list[Function] = []
        self._function()

    def _take(self, layout: str) -> int:
        (value,) = struct.unpack_from(layout, self._dump, self._position)
        self._position += struct.calcsize(layout)
        return int(value)

    def _skip(self, size: int) -> None:
        self._position += size

    def _text(self) -> None:
        self._skip(self._take("@N"))

    def _function(self) -> None:
        self._text()  # where it is from
        line, _, upvalues = self._take("@i"), self._take("@i"), self._take("@B")
        self._skip(3)  # parameters, varargs, stack
        self._skip(4 * self._count())  # instructions
        for _ in range(self._count()):
            self._constant()
        for _ in range(self._count()):
            self._function()
        self._skip(4 * self._count())  # lines of the instructions
        changes = []
        for _ in range(self._count()):
            self._text()
            changes += [(self._take("@i"), 1), (self._take("@i"), -1)]
        for _ in range(self._count()):
            self._text()  # names of the upvalues
        count = most = 0
        for _, change in sorted(changes):
            count += change
            most = max(most, count)
        self.functions.append(Function(line, most, upvalues))

    def _count(self) -> int:
        return self._take("@i")

    def _constant(self) -> None:
        kind = self._take("@B")
        if kind == 1:  # a boolean
            self._skip(1)
        elif kind == 3:  # a number
            self._skip(8)
        elif kind == 4:
            self._text()
