"""The steps of a torchvision network, found by tracing it, with the shapes of what they give."""

from __future__ import annotations

import inspect
import math
from typing import Any

import torch
from torch import fx, nn
from torchvision import ops
from torchvision.models.feature_extraction import NodePathTracer

from search.encoders.picture_layers import Layer, bare

# What is not looked into, as torchvision's own feature extraction does not.
_WHOLE = [one for _, one in inspect.getmembers(ops, inspect.isclass) if issubclass(one, nn.Module)]


def layer_names(network: nn.Module) -> list[str]:
    """The names that torchvision's feature extraction takes, from input to output: steps, and modules of them."""
    _, steps = _traced(network)
    return list(dict.fromkeys(name for step in steps.values() for name in _with_modules(step)))


def layer_shapes(network: nn.Module, side: int) -> list[Layer]:
    """Those of them that give a tensor for each picture, with its shape; a module's name stands for its output.

    Args:
        network: on torch's meta device, where shapes are worked out and nothing else.
        side: of the square pictures, in pixels.
    """
    graph, steps = _traced(network)
    watched = _Watched(graph)
    with torch.device("meta"), torch.inference_mode():
        watched.run(torch.empty(2, 3, side, side))
    shapes: dict[str, tuple[int, ...] | None] = {}
    for node, step in steps.items():
        for name in _with_modules(step):
            shapes[name] = watched.shapes.get(node)  # of a module, its last step's
    return [Layer(name, shape) for name, shape in shapes.items() if shape is not None]


def _traced(network: nn.Module) -> tuple[fx.GraphModule, dict[fx.Node, str]]:
    """The graph, and the name of each step."""
    tracer = NodePathTracer(autowrap_modules=(math, ops), leaf_modules=_WHOLE)
    graph = fx.GraphModule(network, tracer.trace(network))
    named = {node: str(name) for node, name in tracer.node_to_qualname.items()}
    places = {node.name: node for node in graph.graph.nodes}  # a GraphModule holds a copy of the graph
    return graph, {
        places[node.name]: name for node, name in named.items() if node.op not in ("placeholder", "output")
    }


def _with_modules(step: str) -> list[str]:
    """A step's name with those of the modules that it is in."""
    words = step.split(".")
    return [".".join(words[: depth + 1]) for depth in range(len(words))]


class _Watched(fx.Interpreter):
    """Runs a graph of two pictures and notes the shape for one of them."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.shapes: dict[fx.Node, tuple[int, ...]] = {}

    def run_node(self, n: fx.Node) -> Any:
        output = super().run_node(n)
        tensor = bare(output)
        if tensor is not None and tensor.ndim >= 2 and tensor.shape[0] == 2:
            self.shapes[n] = tuple(tensor.shape[1:])
        return output
