"""Puts an ONNX graph into an order, and under names, that follow from the graph alone.

tf2onnx merges equal nodes and sorts them as its objects lie in memory, so that the same model gives
other bytes in each process.
"""

from __future__ import annotations

from typing import Any


def put_in_order(model: Any) -> None:
    """Orders and names everything between a model's inputs and outputs, in place.

    Nodes stand as an answer is computed: each after what it takes, in the order in which it takes
    it. Constants come in the order in which they are taken first.

    Args:
        model: An ``onnx.ModelProto`` without subgraphs.
    """
    graph = model.graph
    nodes = _as_computed(graph)
    kept = {value.name for value in (*graph.input, *graph.output)}
    constants = {constant.name: constant for constant in graph.initializer}
    names = {name: name for name in (*kept, "")}
    ordered: list[Any] = []
    for place, node in enumerate(nodes):
        for taken in node.input:
            if taken not in names:
                names[taken] = f"constant_{len(ordered)}"
                ordered.append(constants[taken])
        node.name = f"{node.op_type}_{place}"
        for at, given in enumerate(node.output):
            names.setdefault(given, f"{node.name}:{at}")
        node.input[:] = [names[taken] for taken in node.input]
        node.output[:] = [names[given] for given in node.output]
    for constant in ordered:
        constant.name = names[constant.name]
    _replace(graph.node, nodes)
    _replace(graph.initializer, ordered)
    # Shapes in between, under the former names: a runtime finds them itself.
    del graph.value_info[:]


def _as_computed(graph: Any) -> list[Any]:
    maker = {name: node for node in graph.node for name in node.output}
    waiting = [value.name for value in reversed(graph.output)]
    found: dict[int, Any] = {}
    while waiting:
        node = maker.get(waiting[-1])
        if node is None or id(node) in found:
            waiting.pop()
            continue
        missing = [name for name in node.input if name in maker and id(maker[name]) not in found]
        if missing:
            waiting.extend(reversed(missing))
        else:
            found[id(node)] = node
    return list(found.values())


def _replace(field: Any, messages: list[Any]) -> None:
    copies = [type(message).FromString(message.SerializeToString()) for message in messages]
    del field[:]
    field.extend(copies)
