"""What numba is told of `darkpipe.science.packed`: types of eight float64 and sixteen float32, their arithmetic, and
their functions.

Imported when a kernel is compiled, since it cannot be read without numba.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable

from darkpipe.science.packed import LANES, SINGLES

_FUSED = ("contract",)


class _PackedType(types.Type):
    """A vector of numbers of one precision; digits: of its mantissa."""

    def __init__(self, name: str, lanes: int, element: Any, scalar: Any, word: Any, digits: int) -> None:
        above: Any = super().__init__
        above(name)
        self.lanes, self.element, self.scalar, self.digits = lanes, element, scalar, digits
        self.vector: Any = ir.VectorType(element, lanes)
        self.words: Any = ir.VectorType(word, lanes)

    def constant(self, value: float) -> Any:
        return ir.Constant(self.vector, [value] * self.lanes)

    def whole(self, value: int) -> Any:
        return ir.Constant(self.words, [value] * self.lanes)


_packed: Any = _PackedType("Packed8", LANES, ir.DoubleType(), types.float64, ir.IntType(64), 52)
_single: Any = _PackedType("Packed16", SINGLES, ir.FloatType(), types.float32, ir.IntType(32), 23)


class _PackedModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        above: Any = super().__init__
        above(dmm, fe_type, fe_type.vector)


_register: Any = register_model
_register(_PackedType)(_PackedModel)
_typed_by: Any = type_callable
_lowered_by: Any = lower_builtin


def _spread(builder: Any, kind: Any, scalar: Any) -> Any:
    """All lanes the same."""
    i32 = ir.IntType(32)
    one = builder.insert_element(ir.Constant(kind.vector, ir.Undefined), scalar, ir.Constant(i32, 0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(i32, kind.lanes), [0] * kind.lanes))


def _vector(context: Any, builder: Any, kind: Any, given: Any, value: Any) -> Any:
    """An operand as a vector."""
    if isinstance(given, _PackedType):
        return value
    return _spread(builder, kind, context.cast(builder, value, given, kind.scalar))


def _kind(given: Any) -> Any:
    """The one type of vectors among operands; None if there is none, or two."""
    found = {t.name: t for t in given if isinstance(t, _PackedType)}
    return next(iter(found.values())) if len(found) == 1 else None


def _binary(function: Any, emit: Callable[[Any, Any, Any], Any]) -> None:
    def typed(context: Any) -> Any:
        def typer(a: Any, b: Any) -> Any:
            numbers = (types.Float, types.Integer, _PackedType)
            return _kind((a, b)) if isinstance(a, numbers) and isinstance(b, numbers) else None

        return typer

    def lowered(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = sig.return_type
        a, b = (_vector(context, builder, kind, t, v) for t, v in zip(sig.args, args, strict=True))
        return emit(builder, a, b)

    _typed_by(function)(typed)
    for first, second in ((_PackedType, _PackedType), (_PackedType, types.Number), (types.Number, _PackedType)):
        _lowered_by(function, first, second)(lowered)


_binary(operator.add, lambda builder, a, b: builder.fadd(a, b, flags=_FUSED))
_binary(operator.sub, lambda builder, a, b: builder.fsub(a, b, flags=_FUSED))
_binary(operator.mul, lambda builder, a, b: builder.fmul(a, b, flags=_FUSED))
_binary(operator.truediv, lambda builder, a, b: builder.fdiv(a, b))


def _negated(context: Any) -> Any:
    return lambda a: a if isinstance(a, _PackedType) else None


def _negate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.fneg(args[0])


_typed_by(operator.neg)(_negated)
_lowered_by(operator.neg, _PackedType)(_negate)


def _compiled(name: str, arity: int, emit: Callable[..., Any], result: Any = None) -> Any:
    """A function of vectors or numbers, as an intrinsic; of numbers alone it is one of eight float64."""

    def typed(*given: Any) -> Any:
        kind = _kind(given) or (None if any(isinstance(t, _PackedType) for t in given) else _packed)
        if kind is None:
            return None

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return emit(
                builder, kind, *(_vector(context, builder, kind, t, v) for t, v in zip(sig.args, args, strict=True))
            )

        return (result or kind)(*given), codegen

    made: dict[int, Any] = {
        1: lambda typing, a: typed(a),
        2: lambda typing, a, b: typed(a, b),
        4: lambda typing, a, b, c, d: typed(a, b, c, d),
    }
    function = made[arity]
    function.__name__ = name
    return intrinsic(function)


def _llvm(name: str) -> Callable[[Any, Any, Any], Any]:
    def emit(builder: Any, kind: Any, value: Any) -> Any:
        full = f"{name}.v{kind.lanes}f{64 if kind is _packed else 32}"
        called = builder.module.declare_intrinsic(full, (), ir.FunctionType(kind.vector, [kind.vector]))
        return builder.call(called, [value])

    return emit


def _choose(builder: Any, kind: Any, a: Any, b: Any, x: Any, y: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", a, b), x, y)


def _any(builder: Any, kind: Any, a: Any, b: Any) -> Any:
    found = builder.bitcast(builder.fcmp_ordered(">", a, b), ir.IntType(kind.lanes))
    return builder.icmp_unsigned("!=", found, ir.Constant(ir.IntType(kind.lanes), 0))


def _is_single(builder: Any, kind: Any, a: Any) -> Any:
    return ir.Constant(ir.IntType(1), int(kind is _single))


def _scaled_by_two(builder: Any, kind: Any, mantissa: Any, shifted: Any) -> Any:
    """mantissa · 2^k, with k in the low bits of 1.5·2^52 + k (of float32: 1.5·2^23 + k)."""
    power = builder.shl(builder.bitcast(shifted, kind.words), kind.whole(kind.digits))
    return builder.bitcast(builder.add(builder.bitcast(mantissa, kind.words), power), kind.vector)


def _exponent(builder: Any, kind: Any, a: Any) -> Any:
    """2^52 + 1023 + the exponent of a number above 0."""
    bits = builder.lshr(builder.bitcast(a, kind.words), kind.whole(52))
    return builder.bitcast(builder.or_(bits, kind.whole(0x4330000000000000)), kind.vector)


def _top(builder: Any, kind: Any, a: Any) -> Any:
    """The upper 22 bits of a number above 0, as a number."""
    bits = builder.lshr(builder.bitcast(a, kind.words), kind.whole(42))
    shifted = builder.bitcast(builder.or_(bits, kind.whole(0x4330000000000000)), kind.vector)
    return builder.fsub(shifted, kind.constant(4503599627370496.0))


def _fraction(builder: Any, kind: Any, a: Any) -> Any:
    """The mantissa of a number above 0, from 1 to 2."""
    bits = builder.and_(builder.bitcast(a, kind.words), kind.whole(0x000FFFFFFFFFFFFF))
    return builder.bitcast(builder.or_(bits, kind.whole(0x3FF0000000000000)), kind.vector)


splat: Any = _compiled("splat", 1, lambda builder, kind, a: a)
like: Any = _compiled("like", 2, lambda builder, kind, a, b: b)
is_single: Any = _compiled("is_single", 1, _is_single, types.boolean)
square_root: Any = _compiled("square_root", 1, _llvm("llvm.sqrt"))
rounded: Any = _compiled("rounded", 1, _llvm("llvm.rint"))
floored: Any = _compiled("floored", 1, _llvm("llvm.floor"))
times: Any = _compiled("times", 2, lambda builder, kind, a, b: builder.fmul(a, b))
top_bits: Any = _compiled("top_bits", 1, _top)
magnitude: Any = _compiled("magnitude", 1, _llvm("llvm.fabs"))
larger: Any = _compiled("larger", 2, lambda builder, kind, a, b: _choose(builder, kind, a, b, a, b))
smaller: Any = _compiled("smaller", 2, lambda builder, kind, a, b: _choose(builder, kind, b, a, a, b))
where_above: Any = _compiled("where_above", 4, _choose)
any_above: Any = _compiled("any_above", 2, _any, types.boolean)
_exponent_of: Any = _compiled("_exponent_of", 1, _exponent)
_fraction_of: Any = _compiled("_fraction_of", 1, _fraction)
_by_power_of_two: Any = _compiled("_by_power_of_two", 2, _scaled_by_two)


def _address(context: Any, builder: Any, array_type: Any, array: Any, row: Any, i: Any, inbounds: bool = True) -> Any:
    made = context.make_array(array_type)(context, builder, array)
    columns = builder.extract_value(made.shape, array_type.ndim - 1)
    at = builder.add(builder.mul(row, columns), i) if array_type.ndim == 2 else i
    return builder.gep(made.data, [at], inbounds=inbounds)


def _checked(array: Any) -> bool:
    return isinstance(array, types.Array) and array.ndim in (1, 2) and array.layout == "C"


def _loaded(kind: Any, name: str) -> Any:
    def load(typing: Any, array: Any, row: Any, i: Any) -> Any:
        if not _checked(array):
            return None

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            row, i = (context.cast(builder, args[k], sig.args[k], types.intp) for k in (1, 2))
            pointer = _address(context, builder, array, args[0], row, i)
            vector = ir.VectorType(context.get_data_type(array.dtype), kind.lanes)
            found = builder.load(builder.bitcast(pointer, vector.as_pointer()), align=array.dtype.bitwidth // 8)
            found.align = array.dtype.bitwidth // 8
            if array.dtype == kind.scalar:
                return found
            if isinstance(array.dtype, types.Float):
                return (builder.fpext if kind is _packed else builder.fptrunc)(found, kind.vector)
            wide = builder.sext if array.dtype.signed else builder.zext
            return builder.sitofp(wide(found, ir.VectorType(ir.IntType(32), kind.lanes)), kind.vector)

        return kind(array, row, i), codegen

    load.__name__ = name
    return intrinsic(load)


def _stored(kind: Any, name: str) -> Any:
    def store(typing: Any, array: Any, row: Any, i: Any, value: Any) -> Any:
        if not _checked(array) or value != kind:
            return None

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            row, i = (context.cast(builder, args[k], sig.args[k], types.intp) for k in (1, 2))
            pointer = _address(context, builder, array, args[0], row, i)
            made = args[3]
            vector = ir.VectorType(context.get_data_type(array.dtype), kind.lanes)
            if isinstance(array.dtype, types.Float):
                if array.dtype != kind.scalar:
                    made = (builder.fptrunc if kind is _packed else builder.fpext)(made, vector)
            else:
                made = builder.fptosi(made, ir.VectorType(ir.IntType(32), kind.lanes))
                if array.dtype.bitwidth < 32:
                    made = builder.trunc(made, vector)
            builder.store(made, builder.bitcast(pointer, made.type.as_pointer()), align=array.dtype.bitwidth // 8)
            return context.get_dummy_value()

        return types.none(array, row, i, value), codegen

    store.__name__ = name
    return intrinsic(store)


load: Any = _loaded(_packed, "load")
load_single: Any = _loaded(_single, "load_single")
store: Any = _stored(_packed, "store")
store_single: Any = _stored(_single, "store_single")


def _row_address(context: Any, builder: Any, kind: Any, array_type: Any, array: Any, given: Any, r: Any) -> Any:
    """Where a row as long as a vector begins."""
    data = context.make_array(array_type)(context, builder, array).data
    whole = builder.bitcast(data, kind.vector.as_pointer())
    return builder.gep(whole, [context.cast(builder, r, given, types.intp)], inbounds=True)


def _rows_of(array: Any) -> Any:
    """The type of vectors that the rows of a matrix are; None if they are none."""
    if not _checked(array) or array.ndim != 2:
        return None
    return next((kind for kind in (_packed, _single) if array.dtype == kind.scalar), None)


def _row(typing: Any, array: Any, r: Any) -> Any:
    kind = _rows_of(array)
    if kind is None:
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = _row_address(context, builder, kind, array, args[0], sig.args[1], args[1])
        found = builder.load(pointer)
        found.align = array.dtype.bitwidth // 8
        return found

    return kind(array, r), codegen


def _set_row(typing: Any, array: Any, r: Any, value: Any) -> Any:
    kind = _rows_of(array)
    if kind is None or value != kind:
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = _row_address(context, builder, kind, array, args[0], sig.args[1], args[1])
        builder.store(args[2], pointer, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.none(array, r, value), codegen


_row.__name__, _set_row.__name__ = "row", "set_row"
row: Any = intrinsic(_row)
set_row: Any = intrinsic(_set_row)


def _fetch(typing: Any, array: Any, row: Any, i: Any) -> Any:
    if not _checked(array):
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        row, i = (context.cast(builder, args[k], sig.args[k], types.intp) for k in (1, 2))
        pointer = _address(context, builder, array, args[0], row, i, inbounds=False)
        byte, i32 = ir.IntType(8).as_pointer(), ir.IntType(32)
        shape = ir.FunctionType(ir.VoidType(), [byte, i32, i32, i32])
        called = builder.module.declare_intrinsic("llvm.prefetch.p0", (), shape)
        reading, keep, of_data = (ir.Constant(i32, number) for number in (0, 3, 1))
        builder.call(called, [builder.bitcast(pointer, byte), reading, keep, of_data])
        return context.get_dummy_value()

    return types.none(array, row, i), codegen


_fetch.__name__ = "fetch"
fetch: Any = intrinsic(_fetch)


def _as_in(typing: Any, value: Any, array: Any) -> Any:
    if not _checked(array) or value != _packed:
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if array.dtype != types.float32:
            return args[0]
        return builder.fpext(builder.fptrunc(args[0], ir.VectorType(ir.FloatType(), LANES)), _packed.vector)

    return _packed(value, array), codegen


_as_in.__name__ = "as_in"
as_in: Any = intrinsic(_as_in)
