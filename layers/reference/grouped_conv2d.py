"""Grouped convolution in float64: the reference of a convolution, group after group."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from layers.conv2d import Conv2d
from layers.grouped_conv2d import GroupedConv2d
from layers.reference import conv2d
from layers.reference.problem import Array, Problem
from layers.reference.reference import Reference


def forward(layer: GroupedConv2d, problem: Problem) -> list[Array]:
    """Return y [N, K, OH, OW]."""
    return [np.concatenate([conv2d.forward(*group)[0] for group in _each(layer, problem)], axis=1)]


def backward_data(layer: GroupedConv2d, problem: Problem) -> list[Array]:
    """Return dx [N, C, H, W]."""
    return [np.concatenate([conv2d.backward_data(*group)[0] for group in _each(layer, problem)], axis=1)]


def backward_weights(layer: GroupedConv2d, problem: Problem) -> dict[str, Array]:
    """Return the gradients of weight [K, C / groups, R, S] and, if there is one, bias [K]."""
    groups = [conv2d.backward_weights(*group) for group in _each(layer, problem)]
    return {name: np.concatenate([group[name] for group in groups]) for name in groups[0]}


def _each(layer: GroupedConv2d, problem: Problem) -> Iterator[tuple[Conv2d, Problem]]:
    """Yield the convolution of each group, and its channels."""
    (x,), (dy,), groups = problem.inputs, problem.dys, layer.groups
    conv = Conv2d(
        layer.out_channels // groups, layer.kernel, layer.stride, layer.padding,
        bias=layer.bias, dilation=layer.dilation,
    )  # fmt: skip
    cut = {name: np.split(array, groups) for name, array in problem.parameters.items()}
    for group, (x_part, dy_part) in enumerate(
        zip(np.split(x, groups, axis=1), np.split(dy, groups, axis=1), strict=True)
    ):
        parameters = {name: parts[group] for name, parts in cut.items()}
        yield conv, replace(problem, inputs=(x_part,), dys=(dy_part,), parameters=parameters)


REFERENCE = Reference(forward, backward_data, backward_weights)
