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
    from numba.cuda.extending import lower_builtin
    from numba.cuda.typing.templates import AbstractTemplate, infer_global, signature

    ir: Any = importlib.import_module("llvmlite.ir")
    i32, u32 = np.int32, np.uint32

    def get(array: Any, index: int) -> Any:
        """Read a word."""

    def put(array: Any, index: int, value: Any) -> None:
        """Write a word."""

    def plane(array: Any, place: int) -> Any:
        """View an array from a place on; indices below 0 are before it."""

    def look(table: Any, row: int, column: int) -> Any:
        """Load a word that other blocks change by atomics; what is loaded after it is at least as new."""

    def _typed(function, result):
        """Tell the compiler a function's type; told so, it looks for no implementation: there are very many calls."""

        class Template(AbstractTemplate):  # type: ignore[misc]
            def generic(self, arguments, _keywords):
                return signature(result(arguments[0]), *arguments)

        infer_global(function)(Template)

    _typed(get, lambda array: array.dtype)
    _typed(put, lambda _array: types.void)
    _typed(plane, lambda array: array)
    _typed(look, lambda table: table.dtype)

    def _pointer(context, builder, kinds, arguments):
        array = context.make_array(kinds.args[0])(context, builder, arguments[0])
        return builder.gep(array.data, [context.cast(builder, arguments[1], kinds.args[1], types.int64)])

    @lower_builtin(get, types.Array, types.Integer)
    def _get(context, builder, kinds, arguments):
        return builder.load(_pointer(context, builder, kinds, arguments))

    @lower_builtin(put, types.Array, types.Integer, types.Any)
    def _put(context, builder, kinds, arguments):
        value = context.cast(builder, arguments[2], kinds.args[2], kinds.args[0].dtype)
        builder.store(value, _pointer(context, builder, kinds, arguments))
        return context.get_dummy_value()

    @lower_builtin(plane, types.Array, types.Integer)
    def _plane(context, builder, kinds, arguments):
        made = context.make_array(kinds.args[0])(context, builder, arguments[0])
        made.data = _pointer(context, builder, kinds, arguments)
        return made._getvalue()

    @lower_builtin(look, types.Array, types.Integer, types.Integer)
    def _look(context, builder, kinds, arguments):
        table = context.make_array(kinds.args[0])(context, builder, arguments[0])
        at = [context.cast(builder, arguments[k], kinds.args[k], types.intp) for k in (1, 2)]
        pointer = cgutils.get_item_pointer(context, builder, kinds.args[0], table, at)
        word = ir.IntType(32)
        load = ir.InlineAsm(
            ir.FunctionType(word, [word.as_pointer()]),
            "ld.acquire.gpu.u32 $0, [$1];", "=r,l,~{memory}", side_effect=True,
        )  # fmt: skip
        return builder.call(load, [pointer])

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


@part
def pair(one, other):
    """Pack two numbers into a word, each rounded to bfloat16: a float32's upper half."""
    low = ((bits_of(one) + 0x8000) >> 16) & 0xFFFF
    return float_of(np.int32(low | ((bits_of(other) + 0x8000) & ~0xFFFF)))
