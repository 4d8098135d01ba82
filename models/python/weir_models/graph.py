"""Parts of ONNX graphs with the names of Weir's contract."""

import numpy
from onnx import TensorProto, helper, numpy_helper


def matrix(name, columns):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", columns])


def constant(name, value, dtype=numpy.float32):
    return numpy_helper.from_array(numpy.asarray(value, dtype=dtype), name)


def filled():
    """Nodes that give `filled`: `features`, or the constant `fill` where `present` is not 1. They need `fill` and `half`."""
    return [
        helper.make_node("Greater", ["present", "half"], ["is_present"]),
        helper.make_node("Where", ["is_present", "features", "fill"], ["filled"]),
    ]


def model(graph):
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)
