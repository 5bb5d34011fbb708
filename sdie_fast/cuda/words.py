"""Words of memory: read and written without a look at their index's sign, and told from block to block."""

from __future__ import annotations

import importlib
import time
from typing import Any, NamedTuple

import numpy as np
from numba import cuda

from .kernels import SIMULATED, bits_of, float_of, part

__all__ = ["below", "get", "i32", "look", "one_of", "other_of", "pair", "pause", "plane", "put", "u32"]

# A Python index may count from the end, and asking for that takes six instructions at each access. `get` and `put`
# don't ask: array[index] of a contiguous array of one axis, for an index of any type that is in range. Sums of a
# variable and constants are best left to them: a constant becomes part of the instruction that loads or stores.
# The compiler takes results of integer arithmetic for int64; these keep them in 32 bits.
i32: Any
u32: Any

if SIMULATED:
    i32 = u32 = int

    class _Part(NamedTuple):
        array: Any
        place: int

    def get(array: Any, index: int) -> Any:
        """Read a word."""
        return array.array[array.place + index] if isinstance(array, _Part) else array[index]

    def put(array: Any, index: int, value: Any) -> None:
        """Write a word."""
        if isinstance(array, _Part):
            array.array[array.place + index] = value
        else:
            array[index] = value

    def plane(array: Any, place: int) -> Any:
        """View an array from a place on; indices below 0 are before it."""
        if isinstance(array, _Part):
            return _Part(array.array, array.place + int(place))
        return _Part(array, int(place))

    def below(i: int, n: int) -> bool:
        """Whether 0 <= i < n, n not negative."""
        return bool(0 <= i < n)

    def look(table: Any, row: int, column: int) -> Any:
        """Load a word that other blocks change by atomics; what is loaded after it is at least as new."""
        return table[row, column]

    def pause(_nanoseconds: int) -> None:
        """Let others work."""
        time.sleep(0)

    def one_of(word: Any) -> Any:
        """The first of a `pair`."""
        return (np.float32(word).view(np.uint32) << np.uint32(16)).view(np.float32)

    def other_of(word: Any) -> Any:
        """The second of a `pair`."""
        return (np.float32(word).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)

else:
    from numba import types
    from numba.cuda import cgutils
    from numba.cuda.extending import intrinsic

    ir: Any = importlib.import_module("llvmlite.ir")
    i32, u32 = np.int32, np.uint32

    def _pointer(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        index = context.cast(builder, arguments[1], signature.args[1], types.int64)
        return builder.gep(array.data, [index])

    @intrinsic
    def get(_context, array, index):
        """Read a word."""

        def generate(context, builder, signature, arguments):
            return builder.load(_pointer(context, builder, signature, arguments))

        return array.dtype(array, index), generate

    @intrinsic
    def put(_context, array, index, value):
        """Write a word."""

        def generate(context, builder, signature, arguments):
            stored = context.cast(builder, arguments[2], signature.args[2], array.dtype)
            builder.store(stored, _pointer(context, builder, signature, arguments))

        return types.void(array, index, value), generate

    @intrinsic
    def plane(_context, array, place):
        """View an array from a place on; indices below 0 are before it."""

        def generate(context, builder, signature, arguments):
            made = context.make_array(array)(context, builder, arguments[0])
            made.data = _pointer(context, builder, signature, arguments)
            return made._getvalue()

        return array(array, place), generate

    @part
    def pause(nanoseconds):
        """Let others work."""
        cuda.nanosleep(np.uint32(nanoseconds))

    @part
    def below(i, n):
        """Whether 0 <= i < n, n not negative."""
        return np.uint32(i) < np.uint32(n)

    @part
    def one_of(word):
        """The first of a `pair`."""
        return float_of(np.int32(bits_of(word) << 16))

    @part
    def other_of(word):
        """The second of a `pair`."""
        return float_of(np.int32(bits_of(word) & ~0xFFFF))

    @intrinsic
    def look(_context, table, row, column):
        """Load a word that other blocks change by atomics; what is loaded after it is at least as new."""

        def generate(context, builder, signature, arguments):
            array = context.make_array(table)(context, builder, arguments[0])
            at = [context.cast(builder, arguments[k], signature.args[k], types.intp) for k in (1, 2)]
            word = ir.IntType(table.dtype.bitwidth)
            kind = ir.FunctionType(word, [word.as_pointer()])
            load = ir.InlineAsm(kind, "ld.acquire.gpu.u32 $0, [$1];", "=r,l,~{memory}", side_effect=True)
            return builder.call(load, [cgutils.get_item_pointer(context, builder, table, array, at)])

        return table.dtype(table, row, column), generate


@part
def pair(one, other):
    """Pack two numbers into a word, each rounded to bfloat16: a float32's upper half."""
    low = ((bits_of(one) + 0x8000) >> 16) & 0xFFFF
    return float_of(np.int32(low | ((bits_of(other) + 0x8000) & ~0xFFFF)))
