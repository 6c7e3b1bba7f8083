"""The order in which sums over columns are added up, the same with numba and without.

The sum of products x_c y_c over columns c = start, start + 1, ... up to stop:

1. The columns are taken in tiles of `TILE`; zeros fill up the last one.
2. Lane l < `LANES` of a tile adds up its products c = l, l + LANES, ..., from zero, one by one.
3. The lanes of the upper half are added to those of the lower half, until a single one is left.
4. The sums of the tiles are added one by one, in their order.
5. What start and stop are does not depend on threads: see `_threads.summed`.

All is float64, every product is rounded before it is added. A sum over rows, column by column,
needs no lanes: from zero, row after row. Numba's own loops could keep that order only one number at
a time; `teach` has it write vector instructions instead, whose lanes are these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BYTES = 8  # of a float64
LANES = 8  # one register of AVX-512, two of AVX2
TILE = 256  # columns; constant, so that the compiler knows the trip count
STEPS = TILE // LANES
SPAN = 2 * LANES
REGISTERS = 4  # rows and columns of a block of the product
BLOCK = 1 << 18  # entries upcast to float64 at a time: 2 MiB, inside the second-level cache
TILES = 8  # at least, so that numpy's inner loops are not too short

Pairs = tuple[tuple[int, int], ...]
GRID: Pairs = tuple((r, s) for r in range(REGISTERS) for s in range(REGISTERS))
DIAGONAL: Pairs = tuple((r, r) for r in range(REGISTERS))
FAN: Pairs = tuple((r, 0) for r in range(REGISTERS))


def tiled(start: int, stop: int, n: int) -> Iterator[slice]:
    """Slices of whole tiles, but for the last one, that fit the cache together with n rows."""
    width = max(BLOCK // (n * TILE), TILES) * TILE
    for left in range(start, stop, width):
        yield slice(left, min(left + width, stop))


def in_lanes(rows: NDArray[Any]) -> FloatArray:
    """Columns (..., w) as float64 (..., STEPS, LANES, tiles), filled up with zeros."""
    *shape, width = rows.shape
    tiles = -(-width // TILE)
    space = np.zeros((*shape, tiles * TILE))
    space[..., :width] = rows
    return np.ascontiguousarray(np.moveaxis(space.reshape(*shape, tiles, STEPS, LANES), -3, -1))


def add_dots(total: FloatArray, x: FloatArray, y: FloatArray) -> None:
    """Add to the total, (...), the tiles' sums of products of x and y, in lanes both."""
    with np.errstate(over="ignore", invalid="ignore"):
        lanes = np.zeros_like(x[..., 0, :, :])
        for step in range(STEPS):
            lanes += x[..., step, :, :] * y[..., step, :, :]
        width = LANES
        while width > 1:
            width //= 2
            lanes = lanes[..., :width, :] + lanes[..., width:, :]
        for tile in range(lanes.shape[-1]):
            total += lanes[..., 0, tile]


def add_grid(A: FloatArray, i: int, B: FloatArray, j: int, out: FloatArray, at: int) -> None:
    """Add <A[i + r], B[j + s]> of `REGISTERS` rows each, row by row, to out from `at` on.

    Args:
        A: Rows of one tile, (., TILE).
        i: The first row of A.
        B: As A.
        j: The first row of B.
        out: Sums, one axis.
        at: The first of them.
    """
    _add(GRID, A, i, B, j, out, at)


def add_diagonal(A: FloatArray, i: int, B: FloatArray, j: int, out: FloatArray, at: int) -> None:
    """The same of <A[i + r], B[j + r]>."""
    _add(DIAGONAL, A, i, B, j, out, at)


def add_fan(A: FloatArray, i: int, B: FloatArray, j: int, out: FloatArray, at: int) -> None:
    """The same of <A[i + r], B[j]>."""
    _add(FAN, A, i, B, j, out, at)


def add_rows(W: FloatArray, i: int, rows: FloatArray, out: FloatArray) -> None:
    """Put sum_j W[i + r, j] rows[j] into out[r], for `REGISTERS` rows of W.

    Args:
        W: Weights, (., n).
        i: The first row of W.
        rows: (n, w), w a multiple of `SPAN`.
        out: (`REGISTERS`, w).
    """
    out[:] = 0
    for weights, row in zip(W[i : i + REGISTERS].T, rows, strict=True):
        out += weights[:, None] * row


def _add(
    pairs: Pairs, A: FloatArray, i: int, B: FloatArray, j: int, out: FloatArray, at: int
) -> None:
    """Where Python runs a kernel."""
    for p, (r, s) in enumerate(pairs, at):
        add_dots(out[p : p + 1], in_lanes(A[i + r : i + r + 1]), in_lanes(B[j + s]))


@cache
def teach() -> None:
    """Tell numba what these four are in compiled code."""
    from numba.extending import overload

    mixing = _mixing_instructions()

    @overload(add_rows, strict=False)  # type: ignore[untyped-decorator]
    def mixed(W: Any, i: Any, rows: Any, out: Any) -> Callable[..., None]:  # noqa: ARG001
        return lambda W, i, rows, out: mixing(W, i, rows, out)

    for function, pairs in ((add_grid, GRID), (add_diagonal, DIAGONAL), (add_fan, FAN)):
        overload(function, strict=False)(_calling(_instructions(pairs)))


def _calling(instructions: Any) -> Callable[..., Any]:
    """What `overload` wants of a function that is nothing but instructions."""

    def compiled(A: Any, i: Any, B: Any, j: Any, out: Any, at: Any) -> Callable[..., None]:  # noqa: ARG001
        return lambda A, i, B, j, out, at: instructions(A, i, B, j, out, at)

    return compiled


def _instructions(pairs: Pairs) -> Any:
    """Sums of products of pairs of rows, side by side in registers.

    LLVM fuses or reorders nothing, since no instruction is flagged that it may.
    """
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils
    from numba.extending import intrinsic

    word, number = ir.IntType(64), ir.DoubleType()
    vector, index = ir.VectorType(number, LANES), ir.IntType(32)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> None:
        def data(position: int) -> Any:
            kind = signature.args[position]
            return context.make_array(kind)(context, builder, args[position]).data

        def place(array: Any, *offsets: Any) -> Any:
            for offset in offsets:
                array = builder.gep(array, [offset])
            return array

        def tile(array: Any, row: Any) -> Any:
            return place(array, builder.mul(row, word(TILE)))

        def half(lanes: Any, first: int, width: int) -> Any:
            chosen = ir.Constant(ir.VectorType(index, width), list(range(first, first + width)))
            return builder.shuffle_vector(lanes, ir.Constant(lanes.type, ir.Undefined), chosen)

        (A, B, out), (_, i, _, j, _, at) = (data(0), data(2), data(4)), args
        left = {r: tile(A, builder.add(i, word(r))) for r, _ in pairs}
        right = {s: tile(B, builder.add(j, word(s))) for _, s in pairs}
        zero = ir.Constant(vector, [0.0] * LANES)
        sums = [cgutils.alloca_once(builder, vector) for _ in pairs]
        for each in sums:
            builder.store(zero, each)
        with cgutils.for_range(builder, word(STEPS)) as loop:
            column = builder.mul(loop.index, word(LANES))

            def load(row: Any) -> Any:
                lanes = builder.bitcast(place(row, column), vector.as_pointer())
                return builder.load(lanes, align=BYTES)

            x = {r: load(row) for r, row in left.items()}
            y = {s: load(row) for s, row in right.items()}
            for (r, s), each in zip(pairs, sums, strict=True):
                builder.store(builder.fadd(builder.load(each), builder.fmul(x[r], y[s])), each)
        for p, each in enumerate(sums):
            lanes, width = builder.load(each), LANES
            while width > 1:
                width //= 2
                lanes = builder.fadd(half(lanes, 0, width), half(lanes, width, width))
            target = place(out, at, word(p))
            found = builder.extract_element(lanes, index(0))
            builder.store(builder.fadd(builder.load(target), found), target)

    @intrinsic  # type: ignore[untyped-decorator]
    def instructions(
        _: Any, A: Any, i: Any, B: Any, j: Any, out: Any, at: Any
    ) -> tuple[Any, Callable[..., Any]]:
        del i, j, at
        return types.void(A, types.intp, B, types.intp, out, types.intp), generate

    return instructions


def _mixing_instructions() -> Any:
    """Sums of rows, `REGISTERS` of them by `SPAN` columns side by side in registers."""
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils
    from numba.extending import intrinsic

    word, index = ir.IntType(64), ir.IntType(32)
    vector = ir.VectorType(ir.DoubleType(), LANES)
    places = [(r, v) for r in range(REGISTERS) for v in range(SPAN // LANES)]

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> None:
        W, rows, out = (
            context.make_array(signature.args[p])(context, builder, args[p]) for p in (0, 2, 3)
        )
        n, width = cgutils.unpack_tuple(builder, rows.shape)

        def at(array: Any, row: Any, length: Any, column: Any) -> Any:
            return builder.gep(array.data, [builder.add(builder.mul(row, length), column)])

        def lanes(array: Any, row: Any, column: Any) -> Any:
            return builder.bitcast(at(array, row, width, column), vector.as_pointer())

        def everywhere(weight: Any) -> Any:
            one = builder.insert_element(ir.Constant(vector, ir.Undefined), weight, index(0))
            chosen = ir.Constant(ir.VectorType(index, LANES), [0] * LANES)
            return builder.shuffle_vector(one, one, chosen)

        sums = {place: cgutils.alloca_once(builder, vector) for place in places}
        with cgutils.for_range(builder, builder.udiv(width, word(SPAN))) as span:
            left = builder.mul(span.index, word(SPAN))
            columns = [builder.add(left, word(v * LANES)) for v in range(SPAN // LANES)]
            for each in sums.values():
                builder.store(ir.Constant(vector, [0.0] * LANES), each)
            with cgutils.for_range(builder, n) as loop:
                x = [builder.load(lanes(rows, loop.index, c), align=BYTES) for c in columns]
                for r in range(REGISTERS):
                    place = at(W, builder.add(args[1], word(r)), n, loop.index)
                    weight = everywhere(builder.load(place))
                    for v, part in enumerate(x):
                        total = builder.load(sums[r, v])
                        builder.store(builder.fadd(total, builder.fmul(weight, part)), sums[r, v])
            for (r, v), each in sums.items():
                builder.store(builder.load(each), lanes(out, word(r), columns[v]), align=BYTES)

    @intrinsic  # type: ignore[untyped-decorator]
    def instructions(_: Any, W: Any, i: Any, rows: Any, out: Any) -> tuple[Any, Callable[..., Any]]:
        del i
        return types.void(W, types.intp, rows, out), generate

    return instructions
