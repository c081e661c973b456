"""Vectors inside numba kernels: a few operations on 16 or 32 numbers held in registers.

The inner loops of consensus and ranking are short and nested, which the compiler's own
vectorisation handles badly (it makes a vector loop, a rest loop and checks for overlapping arrays,
which cost more than the work). These operations say what is meant. They are plain LLVM vectors: a
processor without 512-bit registers gets the same result from several smaller ones.

========== =========================== =======================
function   operands                    result
========== =========================== =======================
load       array, index                vector at that position
store      array, index, vector
plus       vector, vector              sum per lane
fused      scalar, vector, vector      scalar * first + second
positive   vector                      max(vector, 0)
dot        int16, int8, int32 vectors  third + sums of two neighbouring products
total      int32 vector                sum of the lanes
zero                                   int32 vector of zeros
========== =========================== =======================

Indices are uint64 and not checked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

LANES = {types.float32: 16, types.uint16: 32, types.int16: 32, types.int8: 32, types.int32: 16}
"""Numbers per vector, by their type."""

STEP = np.uint64(32)
"""Positions that the loops advance by: two float vectors, or one of smaller numbers."""

HALF = np.uint64(16)


def operation(definition: Callable[..., Any]) -> Callable[..., Any]:
    """Return what kernels call: a numba intrinsic, which has no first argument there."""
    return cast(Callable[..., Any], intrinsic(definition))


class Vector(types.Type):
    """A numba type: a fixed number of scalars in a register."""

    def __init__(self, scalar: Any) -> None:
        self.scalar = scalar
        super().__init__(name=f"Vector({scalar})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Vector) -> None:
        element = manager[kind.scalar].get_value_type()
        vector = ir.VectorType(element, LANES[kind.scalar])
        super().__init__(manager, kind, vector)  # type: ignore[no-untyped-call]


def _pointer(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    place = builder.gep(data, [index])
    vector = context.get_value_type(Vector(kind.dtype))
    return builder.bitcast(place, vector.as_pointer())


@operation
def load(typing: Any, array: Any, index: Any) -> Any:  # noqa: ARG001
    """Return the vector of a contiguous 1-D array that begins at `index`."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        place = _pointer(context, builder, signature.args[0], *values)
        return builder.load(
            place, align=context.get_abi_sizeof(context.get_value_type(array.dtype))
        )

    return Vector(array.dtype)(array, types.uint64), generate


@operation
def store(typing: Any, array: Any, index: Any, vector: Any) -> Any:  # noqa: ARG001
    """Write a vector to a contiguous 1-D array from `index` on."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        place = _pointer(context, builder, signature.args[0], *values[:2])
        align = context.get_abi_sizeof(context.get_value_type(array.dtype))
        builder.store(values[2], place, align=align)
        return context.get_dummy_value()

    return types.void(array, types.uint64, vector), generate


@operation
def plus(typing: Any, a: Any, b: Any) -> Any:  # noqa: ARG001
    """Return the sum of two integer vectors."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:  # noqa: ARG001
        return builder.add(*values)

    return a(a, b), generate


@operation
def fused(typing: Any, factor: Any, a: Any, b: Any) -> Any:  # noqa: ARG001
    """Return ``factor * a + b`` of two float vectors, rounded once where the processor can."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:  # noqa: ARG001
        splat = _splat(builder, values[0], values[1].type)
        product = builder.fmul(splat, values[1], flags=("contract",))
        return builder.fadd(product, values[2], flags=("contract",))

    return a(types.float32, a, b), generate


def _splat(builder: Any, scalar: Any, kind: Any) -> Any:
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.IntType(32)(0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), kind.count), [0] * kind.count)
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), mask)


@operation
def positive(typing: Any, a: Any) -> Any:  # noqa: ARG001
    """Return a float vector with its negative lanes set to 0."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:  # noqa: ARG001
        zero = ir.Constant(values[0].type, [0.0] * values[0].type.count)
        return builder.select(builder.fcmp_ordered(">", values[0], zero), values[0], zero)

    return a(a), generate


@operation
def dot(typing: Any, a: Any, b: Any, c: Any) -> Any:  # noqa: ARG001
    """Return int32 lanes ``c[i] + a[2i] b[2i] + a[2i+1] b[2i+1]`` (one instruction on x86)."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:  # noqa: ARG001
        count = values[0].type.count
        wide = ir.VectorType(ir.IntType(32), count)
        product = builder.mul(builder.sext(values[0], wide), builder.sext(values[1], wide))
        half = ir.VectorType(ir.IntType(32), count // 2)
        none = ir.Constant(wide, ir.Undefined)
        even = builder.shuffle_vector(product, none, ir.Constant(half, list(range(0, count, 2))))
        odd = builder.shuffle_vector(product, none, ir.Constant(half, list(range(1, count, 2))))
        return builder.add(builder.add(even, odd), values[2])

    return c(a, b, c), generate


@operation
def total(typing: Any, a: Any) -> Any:  # noqa: ARG001
    """Return the sum of the lanes of an int32 vector."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:  # noqa: ARG001
        kind = values[0].type
        name = f"llvm.vector.reduce.add.v{kind.count}i32"
        declared = ir.FunctionType(ir.IntType(32), [kind])
        insert: Callable[..., Any] = cgutils.get_or_insert_function
        reduce = insert(builder.module, declared, name)
        return builder.call(reduce, values)

    return types.int32(a), generate


@operation
def zero(typing: Any) -> Any:  # noqa: ARG001
    """Return an int32 vector of zeros."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:  # noqa: ARG001
        return ir.Constant(context.get_value_type(signature.return_type), [0] * LANES[types.int32])

    return Vector(types.int32)(), generate
