"""An ONNX graph in an order of its own: whatever names and order it came in, the same bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from graftline.formats.onnx_order import put_in_order


def model_in(names: dict[str, str], order: list[int]) -> Any:
    """``(x @ w + b) * (x @ w - b)`` and that sum, with these names, its nodes in this order."""
    nodes = [
        helper.make_node("MatMul", ["x", names["w"]], [names["product"]], name=names["1"]),
        helper.make_node("Add", [names["product"], names["b"]], ["sum"], name=names["2"]),
        helper.make_node(
            "Sub", [names["product"], names["b"]], [names["difference"]], name=names["3"]
        ),
        helper.make_node("Mul", ["sum", names["difference"]], ["y"], name=names["4"]),
    ]
    constants = [
        numpy_helper.from_array(np.eye(3, dtype=np.float32) * 2, names["w"]),
        numpy_helper.from_array(np.arange(3, dtype=np.float32), names["b"]),
    ]
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])]
    answers = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3]) for name in ("y", "sum")
    ]
    graph = helper.make_graph(
        [nodes[at] for at in order], "graph", given, answers, constants[:: 1 if order[0] else -1]
    )
    graph.value_info.append(
        helper.make_tensor_value_info(names["product"], TensorProto.FLOAT, [1, 3])
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


PLAIN = {name: name for name in ("w", "b", "product", "difference", "1", "2", "3", "4")}
EXPECTED = model_in(PLAIN, [0, 1, 2, 3])
put_in_order(EXPECTED)


@given(
    order=st.permutations(range(4)),
    names=st.lists(st.text(min_size=1), min_size=8, max_size=8, unique=True),
)
def test_names_and_order_change_nothing(order: list[int], names: list[str]) -> None:
    chosen = dict(zip(PLAIN, (f"_{name}" for name in names), strict=True))
    model = model_in(chosen, order)
    put_in_order(model)
    assert model.SerializeToString(deterministic=True) == EXPECTED.SerializeToString(
        deterministic=True
    )


def test_the_answers_stay() -> None:
    onnx.checker.check_model(EXPECTED, full_check=True)
    session = onnxruntime.InferenceSession(EXPECTED.SerializeToString())
    x = np.array([[1, 2, 3]], np.float32)
    product = x @ (np.eye(3, dtype=np.float32) * 2)
    b = np.arange(3, dtype=np.float32)
    y, total = session.run(["y", "sum"], {"x": x})
    np.testing.assert_array_equal(total, product + b)
    np.testing.assert_array_equal(y, (product + b) * (product - b))
