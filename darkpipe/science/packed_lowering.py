"""What numba is told of `darkpipe.science.packed`: a type of eight float64, its arithmetic, and its functions.

Imported when a kernel is compiled, since it cannot be read without numba.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable

from darkpipe.science.packed import LANES

_DOUBLES = ir.VectorType(ir.DoubleType(), LANES)
_WORDS = ir.VectorType(ir.IntType(64), LANES)
_FUSED = ("contract",)


class _PackedType(types.Type):
    pass


_made: Any = _PackedType
_packed: Any = _made("Packed8")


class _PackedModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        above: Any = super().__init__
        above(dmm, fe_type, _DOUBLES)


_register: Any = register_model
_register(_PackedType)(_PackedModel)
_typed_by: Any = type_callable
_lowered_by: Any = lower_builtin


def _constant(value: float) -> Any:
    return ir.Constant(_DOUBLES, [value] * LANES)


def _spread(builder: Any, scalar: Any) -> Any:
    """All lanes the same."""
    one = builder.insert_element(ir.Constant(_DOUBLES, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))


def _vector(context: Any, builder: Any, given: Any, value: Any) -> Any:
    """An operand as a vector."""
    if isinstance(given, _PackedType):
        return value
    return _spread(builder, context.cast(builder, value, given, types.float64))


def _binary(function: Any, emit: Callable[[Any, Any, Any], Any]) -> None:
    def typed(context: Any) -> Any:
        def typer(a: Any, b: Any) -> Any:
            numbers = (types.Float, types.Integer, _PackedType)
            both = isinstance(a, numbers) and isinstance(b, numbers)
            return _packed if both and (isinstance(a, _PackedType) or isinstance(b, _PackedType)) else None

        return typer

    def lowered(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        a, b = (_vector(context, builder, t, v) for t, v in zip(sig.args, args, strict=True))
        return emit(builder, a, b)

    _typed_by(function)(typed)
    for first, second in ((_PackedType, _PackedType), (_PackedType, types.Number), (types.Number, _PackedType)):
        _lowered_by(function, first, second)(lowered)


_binary(operator.add, lambda builder, a, b: builder.fadd(a, b, flags=_FUSED))
_binary(operator.sub, lambda builder, a, b: builder.fsub(a, b, flags=_FUSED))
_binary(operator.mul, lambda builder, a, b: builder.fmul(a, b, flags=_FUSED))
_binary(operator.truediv, lambda builder, a, b: builder.fdiv(a, b))


def _negated(context: Any) -> Any:
    return lambda a: _packed if isinstance(a, _PackedType) else None


def _negate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.fneg(args[0])


_typed_by(operator.neg)(_negated)
_lowered_by(operator.neg, _PackedType)(_negate)


def _compiled(name: str, arity: int, emit: Callable[..., Any], result: Any = _packed) -> Any:
    """A function of vectors or numbers, as an intrinsic."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return emit(builder, *(_vector(context, builder, t, v) for t, v in zip(sig.args, args, strict=True)))

    made: dict[int, Any] = {
        1: lambda typing, a: (result(a), codegen),
        2: lambda typing, a, b: (result(a, b), codegen),
        4: lambda typing, a, b, c, d: (result(a, b, c, d), codegen),
    }
    function = made[arity]
    function.__name__ = name
    return intrinsic(function)


def _llvm(builder: Any, name: str, value: Any) -> Any:
    called = builder.module.declare_intrinsic(f"{name}.v{LANES}f64", (), ir.FunctionType(_DOUBLES, [_DOUBLES]))
    return builder.call(called, [value])


def _choose(builder: Any, a: Any, b: Any, x: Any, y: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", a, b), x, y)


def _any(builder: Any, a: Any, b: Any) -> Any:
    found = builder.bitcast(builder.fcmp_ordered(">", a, b), ir.IntType(LANES))
    return builder.icmp_unsigned("!=", found, ir.Constant(ir.IntType(LANES), 0))


def _scaled_by_two(builder: Any, mantissa: Any, shifted: Any) -> Any:
    """mantissa · 2^k, with k in the low bits of 1.5·2^52 + k."""
    power = builder.shl(builder.bitcast(shifted, _WORDS), ir.Constant(_WORDS, [52] * LANES))
    return builder.bitcast(builder.add(builder.bitcast(mantissa, _WORDS), power), _DOUBLES)


def _whole(value: int) -> Any:
    return ir.Constant(_WORDS, [value] * LANES)


def _exponent(builder: Any, a: Any) -> Any:
    """2^52 + 1023 + the exponent of a number above 0."""
    bits = builder.lshr(builder.bitcast(a, _WORDS), _whole(52))
    return builder.bitcast(builder.or_(bits, _whole(0x4330000000000000)), _DOUBLES)


def _top(builder: Any, a: Any) -> Any:
    """The upper 22 bits of a number above 0, as a number."""
    bits = builder.lshr(builder.bitcast(a, _WORDS), _whole(42))
    shifted = builder.bitcast(builder.or_(bits, _whole(0x4330000000000000)), _DOUBLES)
    return builder.fsub(shifted, _constant(4503599627370496.0))


def _fraction(builder: Any, a: Any) -> Any:
    """The mantissa of a number above 0, from 1 to 2."""
    bits = builder.and_(builder.bitcast(a, _WORDS), _whole(0x000FFFFFFFFFFFFF))
    return builder.bitcast(builder.or_(bits, _whole(0x3FF0000000000000)), _DOUBLES)


splat: Any = _compiled("splat", 1, lambda builder, a: a)
square_root: Any = _compiled("square_root", 1, lambda builder, a: _llvm(builder, "llvm.sqrt", a))
rounded: Any = _compiled("rounded", 1, lambda builder, a: _llvm(builder, "llvm.rint", a))
floored: Any = _compiled("floored", 1, lambda builder, a: _llvm(builder, "llvm.floor", a))
times: Any = _compiled("times", 2, lambda builder, a, b: builder.fmul(a, b))
top_bits: Any = _compiled("top_bits", 1, _top)
magnitude: Any = _compiled("magnitude", 1, lambda builder, a: _llvm(builder, "llvm.fabs", a))
larger: Any = _compiled("larger", 2, lambda builder, a, b: _choose(builder, a, b, a, b))
smaller: Any = _compiled("smaller", 2, lambda builder, a, b: _choose(builder, b, a, a, b))
where_above: Any = _compiled("where_above", 4, _choose)
any_above: Any = _compiled("any_above", 2, _any, types.boolean)
_exponent_of: Any = _compiled("_exponent_of", 1, _exponent)
_fraction_of: Any = _compiled("_fraction_of", 1, _fraction)
_by_power_of_two: Any = _compiled("_by_power_of_two", 2, _scaled_by_two)


def _address(context: Any, builder: Any, array_type: Any, array: Any, row: Any, i: Any) -> Any:
    made = context.make_array(array_type)(context, builder, array)
    columns = builder.extract_value(made.shape, array_type.ndim - 1)
    at = builder.add(builder.mul(row, columns), i) if array_type.ndim == 2 else i
    return builder.gep(made.data, [at], inbounds=True)


def _checked(array: Any) -> bool:
    return isinstance(array, types.Array) and array.ndim in (1, 2) and array.layout == "C"


def _load(typing: Any, array: Any, row: Any, i: Any) -> Any:
    if not _checked(array):
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        row, i = (context.cast(builder, args[k], sig.args[k], types.intp) for k in (1, 2))
        pointer = _address(context, builder, array, args[0], row, i)
        element = pointer.type.pointee if hasattr(pointer.type, "pointee") else context.get_data_type(array.dtype)
        vector = ir.VectorType(element, LANES)
        found = builder.load(builder.bitcast(pointer, vector.as_pointer()), align=array.dtype.bitwidth // 8)
        found.align = array.dtype.bitwidth // 8
        if array.dtype == types.float64:
            return found
        if array.dtype == types.float32:
            return builder.fpext(found, _DOUBLES)
        wide = builder.sext if array.dtype.signed else builder.zext
        return builder.sitofp(wide(found, ir.VectorType(ir.IntType(32), LANES)), _DOUBLES)

    return _packed(array, row, i), codegen


_load.__name__ = "load"
load: Any = intrinsic(_load)


def _store(typing: Any, array: Any, row: Any, i: Any, value: Any) -> Any:
    if not _checked(array) or not isinstance(value, _PackedType):
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        row, i = (context.cast(builder, args[k], sig.args[k], types.intp) for k in (1, 2))
        pointer = _address(context, builder, array, args[0], row, i)
        made = args[3]
        element = context.get_data_type(array.dtype)
        if array.dtype == types.float32:
            made = builder.fptrunc(made, ir.VectorType(element, LANES))
        elif array.dtype != types.float64:
            made = builder.fptosi(made, ir.VectorType(ir.IntType(32), LANES))
            if array.dtype.bitwidth < 32:
                made = builder.trunc(made, ir.VectorType(element, LANES))
        builder.store(made, builder.bitcast(pointer, made.type.as_pointer()), align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.none(array, row, i, value), codegen


_store.__name__ = "store"
store: Any = intrinsic(_store)


def _as_in(typing: Any, value: Any, array: Any) -> Any:
    if not _checked(array) or not isinstance(value, _PackedType):
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if array.dtype != types.float32:
            return args[0]
        return builder.fpext(builder.fptrunc(args[0], ir.VectorType(ir.FloatType(), LANES)), _DOUBLES)

    return _packed(value, array), codegen


_as_in.__name__ = "as_in"
as_in: Any = intrinsic(_as_in)
