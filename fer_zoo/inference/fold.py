"""The same network with less to do: batch norm inside the convolutions, ReLU and sums with them.

It is what `torch.compile` makes of a frozen network on CPUs, without a compiler.
"""

import logging
import operator
from copy import deepcopy
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.optimization import fuse
from torch.nn import functional as F

from fer_zoo.models import Classifier

log = logging.getLogger("fer_zoo.inference")
_RELUS = (F.relu, torch.relu)
_ADDS = (operator.add, torch.add)


class PackedConv2d(nn.Module):
    """A convolution in oneDNN's own layout, by private operators, with the ReLU or sum after it."""

    def __init__(self, conv: nn.Conv2d, shape: torch.Size, relu: bool) -> None:
        super().__init__()
        self.where: Any = (conv.padding, conv.stride, conv.dilation, conv.groups)
        self.shape, self.bias, self.relu = shape, conv.bias, relu
        self._pack(conv.weight.detach())

    def _pack(self, weight: Tensor) -> None:
        pack: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
        self.weight = pack(weight.to_mkldnn(), *self.where, self.shape)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"weight": self.weight.to_dense()}  # oneDNN's cannot be copied

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._pack(state["weight"])

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """Return `conv(x)`, or `conv(x) + other`, rectified if a ReLU follows."""
        after = "relu" if self.relu else None
        run = torch.ops.mkldnn._convolution_pointwise
        if other is None:
            return run(x, self.weight, self.bias, *self.where, after or "none", [], "")  # type: ignore[no-any-return]
        return run.binary(  # type: ignore[no-any-return]
            x, other, self.weight, self.bias, *self.where, "add", 1.0, after, [], ""
        )


def snapshot(network: nn.Module) -> nn.Module:
    """Return a copy of a network for evaluation, its memory laid out for convolutions."""
    copy = deepcopy(network).eval().requires_grad_(False)
    return copy.to(memory_format=torch.channels_last)


def fold(network: Classifier, example: Tensor, *, pack: bool = True) -> nn.Module:
    """Return a copy of a network that computes the same logits with less work, if traceable."""
    plain = snapshot(network)
    try:
        traced = cast(fx.GraphModule, fuse(plain))
    except Exception:  # tracing runs the network's own code, which may raise whatever it likes
        return plain.to(example.dtype)
    traced.to(example.dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if pack and example.device.type == "cpu":
        try:
            _pack(traced, example)
        except Exception as error:  # operators that are not public may be gone, or refuse a dtype
            log.info("%s runs without oneDNN's layout: %s", network.name, error)
            return fold(network, example, pack=False)
    return traced


def _pack(traced: fx.GraphModule, example: Tensor) -> None:
    """Put packed convolutions in place of the network's, each with the ReLU and sum after it."""
    shapes: dict[fx.Node, torch.Size] = {}

    class Shapes(fx.Interpreter):  # fx's own ShapeProp imports sympy, which takes 0.7 s
        def run_node(self, n: fx.Node) -> Any:
            if n.op == "call_module":
                shapes[n] = self.env[n.all_input_nodes[0]].shape
            return super().run_node(n)

    with torch.inference_mode():
        Shapes(traced).run(example)
    modules, order = dict(traced.named_modules()), {n: i for i, n in enumerate(traced.graph.nodes)}
    for node in list(traced.graph.nodes):
        conv = modules.get(str(node.target))
        if type(conv) is not nn.Conv2d or conv.padding_mode != "zeros":
            continue
        if isinstance(conv.padding, str):
            continue
        last, other = node, None
        add = _only_user(node)
        if add and add.target in _ADDS and len(add.all_input_nodes) == 2 and not add.kwargs:
            (side,) = (n for n in add.args if n is not node)
            # The sum is taken when this convolution runs, so the other side must be there by then.
            if order[side] < order[node]:
                last, other = add, side
        relu = _only_user(last)
        rectified = relu is not None and _is_relu(relu, modules)
        packed = PackedConv2d(conv, shapes[node], rectified)
        traced.set_submodule(str(node.target), packed)
        if other is not None:
            node.args = (node.args[0], other)
        for done in ([relu] if rectified else []) + ([last] if last is not node else []):
            done.replace_all_uses_with(node)
            traced.graph.erase_node(done)
    traced.graph.lint()
    traced.recompile()
    with torch.inference_mode():
        traced(example[:1])


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _is_relu(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    return type(modules.get(str(node.target))) is nn.ReLU or node.target in _RELUS
