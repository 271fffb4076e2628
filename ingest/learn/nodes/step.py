"""The inner step of skip-gram as vector code: one center's row against a handful of target rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16  # floats in one vector operation; rows are padded to a multiple of it
REACH = 8.0  # the sigmoid is taken as constant beyond +-REACH (its slope there is 3e-4)
CELLS = 1024  # intervals of the sigmoid's table; interpolated, it is right to 3e-6
SIGMOID = (1.0 / (1.0 + np.exp(-np.linspace(-REACH, REACH, CELLS + 1)))).astype(np.float32)

# Reordering sums and fusing products is allowed; treating NaN as impossible is not (it indexes a table).
_FLAGS = ("reassoc", "contract", "nsz")
_FLOAT, _INDEX = ir.FloatType(), ir.IntType(64)
_VECTOR = ir.VectorType(_FLOAT, LANES)
_ZERO = ir.Constant(_VECTOR, [0.0] * LANES)


@intrinsic  # type: ignore[untyped-decorator, unused-ignore]
def sgd_step(
    typing_context: Any,
    tiles: Any,
    inputs: Any,
    center: Any,
    outputs: Any,
    targets: Any,
    low: Any,
    high: Any,
    rate: Any,
    weight: Any,
    table: Any,
) -> Any:
    """One step of skip-gram: row `center` of `inputs` against the rows of `outputs` in `targets[low:high]`.

    In `targets`, u is a negative and ~u a true context. Each target's row moves by
    rate * (label - sigmoid(center . target)) * center, one after the other; then the center's row by the sum of
    rate * (label - sigmoid) * target, all from the center's row as it was (Mikolov et al. 2013, eq. 4). A negative
    counts `weight` times.

    `tiles` is any tuple: its length, how many times LANES floats a row holds, carries the width into the
    compiler, so that the center's row and its gradient stay in registers. `table` is SIGMOID.
    """
    signature = types.void(tiles, inputs, center, outputs, targets, low, high, rate, weight, table)
    width = len(tiles)

    def generate(context: Any, builder: Any, sig: Any, given: Any) -> Any:
        data = [
            context.make_array(kind)(context, builder, value).data if isinstance(kind, types.Array) else None
            for kind, value in zip(sig.args, given, strict=True)
        ]
        at, first, last = (context.cast(builder, given[k], sig.args[k], types.int64) for k in (2, 5, 6))
        step, often = (context.cast(builder, given[k], sig.args[k], types.float32) for k in (7, 8))
        of_negative = builder.fmul(step, often)
        centers = _tiles(builder, data[1], at, width)
        center_now = [builder.load(tile, align=4) for tile in centers]
        gradient = [cgutils.alloca_once_value(builder, _ZERO) for _ in range(width)]
        with cgutils.for_range_slice(builder, first, last, ir.Constant(_INDEX, 1), _INDEX) as (place, _):
            coded = builder.load(builder.gep(data[4], [place]))
            is_context = builder.icmp_signed("<", coded, ir.Constant(coded.type, 0))
            row = builder.sext(builder.select(is_context, builder.not_(coded), coded), _INDEX)
            rows = _tiles(builder, data[3], row, width)
            row_now = [builder.load(tile, align=4) for tile in rows]
            label = builder.select(is_context, ir.Constant(_FLOAT, 1.0), ir.Constant(_FLOAT, 0.0))
            likely = _sigmoid(builder, data[9], _dot(builder, center_now, row_now))
            length = builder.select(is_context, step, of_negative)
            error = _spread(builder, builder.fmul(builder.fsub(label, likely), length))
            for k in range(width):
                builder.store(_added(builder, row_now[k], error, center_now[k]), rows[k], align=4)
                so_far = builder.load(gradient[k])
                builder.store(_added(builder, so_far, error, row_now[k]), gradient[k])
        for k in range(width):
            moved = builder.fadd(center_now[k], builder.load(gradient[k]), flags=_FLAGS)
            builder.store(moved, centers[k], align=4)
        return context.get_dummy_value()

    return signature, generate


def _tiles(builder: Any, data: Any, row: Any, width: int) -> list[Any]:
    """Pointers to the vectors that make up a row of a matrix whose rows hold width * LANES floats."""
    start = builder.mul(row, ir.Constant(_INDEX, width * LANES))
    places = [builder.add(start, ir.Constant(_INDEX, k * LANES)) for k in range(width)]
    return [builder.bitcast(builder.gep(data, [place]), _VECTOR.as_pointer()) for place in places]


def _added(builder: Any, total: Any, left: Any, right: Any) -> Any:
    """total + left * right."""
    return builder.fadd(total, builder.fmul(left, right, flags=_FLAGS), flags=_FLAGS)


def _dot(builder: Any, left: list[Any], right: list[Any]) -> Any:
    """The inner product of two rows."""
    total = _ZERO
    for one, other in zip(left, right, strict=True):
        total = _added(builder, total, one, other)
    kind = ir.FunctionType(_FLOAT, [_FLOAT, _VECTOR])
    add_up = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.fadd.v{LANES}f32")
    return builder.call(add_up, [ir.Constant(_FLOAT, -0.0), total], fastmath=_FLAGS)


def _spread(builder: Any, value: Any) -> Any:
    """A vector that holds `value` in each lane."""
    lane = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(lane, lane, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))


def _sigmoid(builder: Any, table: Any, score: Any) -> Any:
    """The sigmoid of `score`, read from the table with linear interpolation; NaN is taken as -REACH."""
    low, high = ir.Constant(_FLOAT, -REACH), ir.Constant(_FLOAT, REACH)
    held = builder.select(builder.fcmp_ordered(">", score, low), score, low)
    held = builder.select(builder.fcmp_ordered("<", held, high), held, high)
    scaled = builder.fmul(builder.fsub(held, low), ir.Constant(_FLOAT, CELLS / (2 * REACH)))
    cell = builder.fptosi(scaled, _INDEX)
    last = ir.Constant(_INDEX, CELLS - 1)
    cell = builder.select(builder.icmp_signed("<", cell, last), cell, last)
    left = builder.load(builder.gep(table, [cell]))
    right = builder.load(builder.gep(table, [builder.add(cell, ir.Constant(_INDEX, 1))]))
    share = builder.fsub(scaled, builder.sitofp(cell, _FLOAT))
    return builder.fadd(left, builder.fmul(share, builder.fsub(right, left)))
