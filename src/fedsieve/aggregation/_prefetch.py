"""Asking the memory for what is read next: the one instruction that numba lacks."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from numpy.typing import NDArray

LINE = 64  # bytes that come at once


def prefetch(row: NDArray[Any], c: int) -> None:
    """Have ``row[c]``, and what shares its line, brought near; nothing where Python runs this."""


@cache
def teach() -> None:
    """Tell numba what `prefetch` is in compiled code."""
    from llvmlite import ir
    from numba import types
    from numba.extending import intrinsic, overload

    @intrinsic  # type: ignore[untyped-decorator]
    def instruction(_: Any, row: Any, c: Any) -> tuple[Any, Callable[..., Any]]:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> None:
            data = context.make_array(signature.args[0])(context, builder, args[0]).data
            place = builder.bitcast(builder.gep(data, [args[1]]), ir.IntType(8).as_pointer())
            number = ir.IntType(32)
            form = ir.FunctionType(ir.VoidType(), [place.type, number, number, number])
            called = builder.module.declare_intrinsic("llvm.prefetch", [place.type], form)
            reading, second_level, no_code = (ir.Constant(number, i) for i in (0, 2, 1))
            builder.call(called, [place, reading, second_level, no_code])

        return types.void(row, c), generate

    @overload(prefetch, strict=False)  # type: ignore[untyped-decorator]
    def compiled(row: Any, c: Any) -> Callable[..., None]:  # noqa: ARG001
        return lambda row, c: instruction(row, c)
