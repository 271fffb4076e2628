"""The inner step of skip-gram as vector code: one center's row against a handful of target rows."""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16  # floats in one vector operation; rows are padded to a multiple of it
AT_ONCE = 4  # targets whose inner products are taken together, as each waits long for its sum and its sigmoid
REACH = 8.0  # the sigmoid is taken as constant beyond +-REACH (its slope there is 3e-4)
# tanh(x) is x * P(x^2) / Q(x^2) to 2e-5 up to REACH / 2 and to 1e-7 up to 2: the seventh convergent of its
# continued fraction (Lambert 1768).
_UPPER, _LOWER = (135135.0, 17325.0, 378.0, 1.0), (135135.0, 62370.0, 3150.0, 28.0)

# Reordering sums and fusing products is allowed; treating NaN as impossible is not: it has to be seen in the vectors.
_FLAGS = ("reassoc", "contract", "nsz")
_FLOAT, _INDEX, _LANE = ir.FloatType(), ir.IntType(64), ir.IntType(32)
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
) -> Any:
    """One step of skip-gram: row `center` of `inputs` against the rows of `outputs` in `targets[low:high]`.

    In `targets`, u is a negative and ~u a true context. Each target's row moves by
    rate * (label - sigmoid(center . target)) * center; then the center's row by the sum of
    rate * (label - sigmoid) * target, all from the center's row as it was (Mikolov et al. 2013, eq. 4). A negative
    counts `weight` times. A row that is a target twice among AT_ONCE moves twice, by scores from before both.

    `tiles` is any tuple: its length, how many times LANES floats a row holds, carries the width into the
    compiler, so that the center's row and its gradient stay in registers.
    """
    signature = types.void(tiles, inputs, center, outputs, targets, low, high, rate, weight)
    width = len(tiles)

    def generate(context: Any, builder: Any, sig: Any, given: Any) -> Any:
        data = [
            context.make_array(kind)(context, builder, value).data if isinstance(kind, types.Array) else None
            for kind, value in zip(sig.args, given, strict=True)
        ]
        at, first, last = (context.cast(builder, given[k], sig.args[k], types.int64) for k in (2, 5, 6))
        step, often = (context.cast(builder, given[k], sig.args[k], types.float32) for k in (7, 8))
        rates = step, builder.fmul(step, often)
        centers = _tiles(builder, data[1], at, width)
        center_now = [builder.load(tile, align=4) for tile in centers]
        gradient = [cgutils.alloca_once_value(builder, _ZERO) for _ in range(width)]
        for count in (AT_ONCE, 2, 1):
            left = builder.sub(last, first)
            end = builder.sub(last, builder.and_(left, ir.Constant(_INDEX, count - 1)))
            with cgutils.for_range_slice(builder, first, end, ir.Constant(_INDEX, count), _INDEX) as (
                place,
                _,
            ):
                _move(builder, (data[3], data[4], place, count), center_now, gradient, rates)
            first = end
        for k in range(width):
            moved = builder.fadd(center_now[k], builder.load(gradient[k]), flags=_FLAGS)
            builder.store(moved, centers[k], align=4)
        return context.get_dummy_value()

    return signature, generate


def _move(
    builder: Any,
    some: tuple[Any, Any, Any, int],
    center: list[Any],
    gradient: list[Any],
    rates: tuple[Any, Any],
) -> None:
    """Move the rows of `some` targets (rows, targets, the first's place, how many), and add to the gradient."""
    outputs, targets, place, count = some
    rows, labels, lengths, sums = [], [], [], []
    for k in range(count):
        coded = builder.load(builder.gep(targets, [builder.add(place, ir.Constant(_INDEX, k))]))
        is_context = builder.icmp_signed("<", coded, ir.Constant(coded.type, 0))
        row = builder.sext(builder.select(is_context, builder.not_(coded), coded), _INDEX)
        rows.append(_tiles(builder, outputs, row, len(center)))
        labels.append(builder.select(is_context, ir.Constant(_FLOAT, 1.0), ir.Constant(_FLOAT, 0.0)))
        lengths.append(builder.select(is_context, *rates))
        sums.append(_ZERO)
    for k, tile in enumerate(center):
        for each in range(count):
            sums[each] = _added(builder, sums[each], tile, builder.load(rows[each][k], align=4))
    scores = _joined(builder, [_total(builder, each) for each in sums])
    wrong = builder.fsub(_joined(builder, labels), _sigmoid(builder, scores), flags=_FLAGS)
    errors = builder.fmul(wrong, _joined(builder, lengths), flags=_FLAGS)
    for each in range(count):
        error = _spread(builder, errors, each)
        for k, tile in enumerate(center):
            now = builder.load(rows[each][k], align=4)  # again: it may be the row of the target before
            builder.store(_added(builder, now, error, tile), rows[each][k], align=4)
            builder.store(_added(builder, builder.load(gradient[k]), error, now), gradient[k])


def _tiles(builder: Any, data: Any, row: Any, width: int) -> list[Any]:
    """Pointers to the vectors that make up a row of a matrix whose rows hold width * LANES floats."""
    start = builder.mul(row, ir.Constant(_INDEX, width * LANES))
    places = [builder.add(start, ir.Constant(_INDEX, k * LANES)) for k in range(width)]
    return [builder.bitcast(builder.gep(data, [place]), _VECTOR.as_pointer()) for place in places]


def _added(builder: Any, total: Any, left: Any, right: Any) -> Any:
    """total + left * right."""
    return builder.fadd(total, builder.fmul(left, right, flags=_FLAGS), flags=_FLAGS)


def _total(builder: Any, vector: Any) -> Any:
    """The sum of the lanes."""
    kind = ir.FunctionType(_FLOAT, [_FLOAT, _VECTOR])
    add_up = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.fadd.v{LANES}f32")
    return builder.call(add_up, [ir.Constant(_FLOAT, -0.0), vector], fastmath=_FLAGS)


def _joined(builder: Any, values: list[Any]) -> Any:
    """A vector of these floats."""
    vector = ir.Constant(ir.VectorType(_FLOAT, len(values)), ir.Undefined)
    for k, value in enumerate(values):
        vector = builder.insert_element(vector, value, ir.Constant(_LANE, k))
    return vector


def _spread(builder: Any, values: Any, lane: int) -> Any:
    """A vector that holds one lane of `values` in each of its own."""
    return builder.shuffle_vector(values, values, ir.Constant(ir.VectorType(_LANE, LANES), [lane] * LANES))


def _sigmoid(builder: Any, scores: Any) -> Any:
    """The sigmoids (1 + tanh(score / 2)) / 2 of a vector; that of NaN is NaN."""

    def constant(value: float) -> Any:
        return ir.Constant(scores.type, [value] * scores.type.count)

    def polynomial(terms: tuple[float, ...]) -> Any:
        found = constant(terms[-1])
        for term in reversed(terms[:-1]):
            found = _added(builder, constant(term), found, square)
        return found

    held = builder.select(builder.fcmp_unordered("<", scores, constant(REACH)), scores, constant(REACH))
    held = builder.select(builder.fcmp_unordered(">", held, constant(-REACH)), held, constant(-REACH))
    half = builder.fmul(held, constant(0.5))
    square = builder.fmul(half, half)
    upper = builder.fmul(builder.fmul(half, constant(0.5)), polynomial(_UPPER), flags=_FLAGS)
    return builder.fadd(constant(0.5), builder.fdiv(upper, polynomial(_LOWER)), flags=_FLAGS)
