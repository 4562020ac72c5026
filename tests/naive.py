"""An independent trainer: a whole network in plain float64 numpy, sharing no code with the project.

A network is a list of nodes in topological order, each a dictionary::

    {"name": "conv1", "op": "conv", "inputs": ["input"], "stride": 1, "padding": (1, 1)}

with the operations and attributes

    conv         stride, padding (rows, columns); parameters weight [K, C, R, S], bias [K] or none
    linear       parameters weight [K, C], bias [K] or none
    relu, sigmoid, flatten, add, concat
    mask         mask, an array like the input that it is multiplied by
    max_pool     window (rows, columns), stride, padding (one number)
    avg_pool     window, stride
    group_norm   groups (equal runs of channels), epsilon; parameters weight, bias [C]; a layer
                 normalisation is one of vectors with a single group
    batch_norm   groups (equal runs of samples), epsilon, momentum, scaled; parameters weight, bias [C];
                 with `statistics`, a pair of arrays [C], mean and variance are these and not a group's

The input is called "input"; the last node's value goes into softmax and cross entropy, the mean of it
over the minibatch is minimised.
"""

from collections.abc import Container, Mapping, Sequence
from fnmatch import fnmatchcase
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Node = Mapping[str, Any]
Weights = dict[tuple[str, str], Array]
"""Parameters by (node, parameter)."""


def train(
    network: Sequence[Node],
    weights: Mapping[tuple[str, str], NDArray[np.floating]],
    batches: Sequence[tuple[NDArray[np.floating], NDArray[np.integer]]],
    learning_rates: Sequence[float],
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    kind: str = "sgd",
    betas: tuple[float, ...] = (0.9, 0.999),
    eps: float = 0.0,
    trust_coefficient: float = 1e-3,
    decay_exempt: Sequence[str] = (),
    clip_norm: float = 0.0,
    ema: float = 0.0,
    label_smoothing: float = 0.0,
    class_weights: Sequence[float] | None = None,
    frozen: Container[str] = (),
    rate_factors: Mapping[str, float] | None = None,
    running: Weights | None = None,
) -> tuple[list[float], Weights]:
    """Train one step a batch; return the loss before each step, and the weights, with `ema` their average.

    sgd: ``g += decay * w; v = momentum * v + g; w -= rate * v``, nesterov: ``rate * (g + momentum * v)``.
    adamw: ``w -= rate * (m' / (sqrt(v') + eps) + decay * w)`` with averages m and v of g and g * g, which
    are corrected as PyTorch's are. lars: ``v = momentum * v + rate * trust * (g + decay * w); w -= v``. lamb
    is adamw with a trust.

    Nodes that are `frozen` keep their weights; `rate_factors` multiply the rate of others, by name. The
    running statistics of batch normalisations, where given, are updated in place. `decay_exempt` are patterns
    of "node.parameter" without decay and with a trust of 1. `class_weights` are taken as they are.
    """
    weights = {key: value.astype(np.float64) for key, value in weights.items()}
    first, second = ({key: np.zeros_like(value) for key, value in weights.items()} for _ in range(2))
    averages = dict(weights)
    losses = []
    for step, ((x, labels), rate) in enumerate(zip(batches, learning_rates, strict=True), start=1):
        loss, gradients = loss_and_gradients(network, weights, x, labels, label_smoothing, class_weights)
        losses.append(loss)
        if running:
            _move_statistics(network, weights, x, running)
        gradients = {key: gradient for key, gradient in gradients.items() if key[0] not in frozen}
        norm = np.sqrt(sum((gradient**2).sum() for gradient in gradients.values()))
        shorter = clip_norm / norm if 0 < clip_norm < norm else 1.0
        for key, gradient in gradients.items():
            own, w, g = rate * (rate_factors or {}).get(key[0], 1.0), weights[key], gradient * shorter
            exempt = any(fnmatchcase(".".join(key), pattern) for pattern in decay_exempt)
            decay = 0.0 if exempt else weight_decay
            if kind in ("adamw", "lamb"):
                first[key] = betas[0] * first[key] + (1 - betas[0]) * g
                second[key] = betas[1] * second[key] + (1 - betas[1]) * g * g
                root = np.sqrt(second[key] / (1 - betas[1] ** step))
                usual = 1e-8 if kind == "adamw" else 1e-6
                direction = first[key] / (1 - betas[0] ** step) / (root + (eps or usual)) + decay * w
                trust = _trust(_norm(w), _norm(direction), exempt) if kind == "lamb" else 1.0
                weights[key] = w - own * trust * direction
            elif kind == "lars":
                trust = _trust(trust_coefficient * _norm(w), _norm(g) + decay * _norm(w), exempt)
                first[key] = momentum * first[key] + own * trust * (g + decay * w)
                weights[key] = w - first[key]
            else:
                g = g + decay * w
                first[key] = momentum * first[key] + g
                weights[key] = w - own * (g + momentum * first[key] if nesterov else first[key])
        share = max(1 - ema, 10 / (step + 9))
        averages = {key: averages[key] + share * (weights[key] - averages[key]) for key in weights}
    return losses, averages if ema else weights


def _norm(values: Array) -> float:
    return float(np.sqrt((values**2).sum()))


def _trust(weights: float, step: float, exempt: bool) -> float:
    return 1.0 if exempt or weights == 0 or step == 0 else weights / step


def loss_and_gradients(
    network: Sequence[Node],
    weights: Mapping[tuple[str, str], Array],
    x: NDArray[np.floating],
    labels: NDArray[np.integer],
    label_smoothing: float = 0.0,
    class_weights: Sequence[float] | None = None,
) -> tuple[float, Weights]:
    """Return the mean loss of a minibatch and its gradient by every parameter."""
    values = forward(network, weights, x)
    last = network[-1]["name"]
    loss, slope = _softmax_cross_entropy(values[last], labels, label_smoothing, class_weights)
    gradients: Weights = {}
    slopes = {last: slope}
    for node in reversed(network):
        inputs = [values[name] for name in node["inputs"]]
        own = _own(weights, node)
        backward = _BACKWARD[node["op"]]
        input_slopes, parameter_slopes = backward(node, inputs, own, slopes[node["name"]])
        for name, slope in zip(node["inputs"], input_slopes, strict=True):
            slopes[name] = slopes[name] + slope if name in slopes else slope
        for name, slope in parameter_slopes.items():
            if name in own:  # a layer may have no bias
                gradients[node["name"], name] = slope
    return loss, gradients


def forward(
    network: Sequence[Node], weights: Mapping[tuple[str, str], Array], x: NDArray[np.floating]
) -> dict[str, Array]:
    """Return the value of every node by name."""
    values = {"input": x.astype(np.float64)}
    for node in network:
        inputs = [values[name] for name in node["inputs"]]
        values[node["name"]] = _FORWARD[node["op"]](node, inputs, _own(weights, node))
    return values


def _move_statistics(
    network: Sequence[Node],
    weights: Mapping[tuple[str, str], Array],
    x: NDArray[np.floating],
    running: Weights,
) -> None:
    values = forward(network, weights, x)
    for node in network:
        if node["op"] == "batch_norm":
            groups = np.split(values[node["inputs"][0]], node["groups"])
            mean = np.mean([_channels(group).mean(1) for group in groups], axis=0)
            variance = np.mean([_channels(group).var(1, ddof=1) for group in groups], axis=0)
            for name, now in (("running_mean", mean), ("running_var", variance)):
                old = running[node["name"], name]
                running[node["name"], name] = old + node["momentum"] * (now - old)


def mean_one(class_weights: Sequence[float], labels: NDArray[np.integer]) -> list[float]:
    """Return weights of classes scaled so that their mean over the samples with these labels is 1."""
    mean = sum(class_weights[label] for label in labels) / len(labels)
    return [weight / mean for weight in class_weights]


def balanced(labels: NDArray[np.integer], classes: int) -> list[float]:
    """Return weights of classes by the inverse of their samples; 1 for a class without any."""
    counts = [sum(int(label) == k for label in labels) for k in range(classes)]
    there = sum(count > 0 for count in counts)
    return [len(labels) / (there * count) if count else 1.0 for count in counts]


def drawn_samples(
    labels: NDArray[np.integer], class_weights: Sequence[float], words: Sequence[int]
) -> list[int]:
    """Return the samples that pairs of random 64-bit words draw, in proportion to the weight of their class.

    The first word of a pair is a point on a line on which each class has a piece as long as the weight of all
    its samples; the second, modulo their number, is one of them in their order.
    """
    members = [[n for n, label in enumerate(labels) if label == k] for k in range(len(class_weights))]
    masses = [Fraction(w) * len(own) for w, own in zip(class_weights, members, strict=True)]
    drawn = []
    for point, index in zip(words[::2], words[1::2], strict=True):
        left, k = Fraction(int(point), 2**64) * sum(masses), 0
        while left >= masses[k]:
            left, k = left - masses[k], k + 1
        drawn.append(members[k][int(index) % len(members[k])])
    return drawn


Parameters = dict[str, Array]
Slopes = tuple[list[Array], Parameters]
"""Gradients by the inputs, and by the parameters."""


def _own(weights: Mapping[tuple[str, str], Array], node: Node) -> Parameters:
    return {name: value for (owner, name), value in weights.items() if owner == node["name"]}


def _softmax_cross_entropy(
    logits: Array, labels: Array, smoothing: float, class_weights: Sequence[float] | None
) -> tuple[float, Array]:
    samples, classes = logits.shape
    slope = np.zeros_like(logits)
    loss = 0.0
    for n in range(samples):
        wanted = np.full(classes, smoothing / classes)
        if labels.ndim == 1:
            wanted[labels[n]] += 1 - smoothing
        else:  # shares of all classes, as of mixed samples
            wanted += (1 - smoothing) * labels[n]
        exponentials = np.exp(logits[n] - logits[n].max())
        probabilities = exponentials / exponentials.sum()
        wanted *= np.ones(classes) if class_weights is None else class_weights
        loss -= (wanted * np.log(probabilities)).sum()
        slope[n] = probabilities * wanted.sum() - wanted
    return loss / samples, slope / samples


def _conv(node: Node, inputs: list[Array], own: Parameters) -> Array:
    (x,), weight, stride = inputs, own["weight"], node["stride"]
    filters, _, r, s = weight.shape
    padded = _padded(x, node["padding"], 0)
    rows, columns = (padded.shape[2] - r) // stride + 1, (padded.shape[3] - s) // stride + 1
    y = np.zeros((len(x), filters, rows, columns))
    for i in range(rows):
        for j in range(columns):
            patch = padded[:, :, i * stride : i * stride + r, j * stride : j * stride + s]
            y[:, :, i, j] = np.tensordot(patch, weight, ([1, 2, 3], [1, 2, 3])) + own.get("bias", 0.0)
    return y


def _conv_backward(node: Node, inputs: list[Array], own: Parameters, dy: Array) -> Slopes:
    (x,), weight, stride = inputs, own["weight"], node["stride"]
    r, s = weight.shape[2:]
    padded = _padded(x, node["padding"], 0)
    dpadded, dweight = np.zeros_like(padded), np.zeros_like(weight)
    for i in range(dy.shape[2]):
        for j in range(dy.shape[3]):
            at = np.s_[:, :, i * stride : i * stride + r, j * stride : j * stride + s]
            dpadded[at] += np.tensordot(dy[:, :, i, j], weight, (1, 0))
            dweight += np.tensordot(dy[:, :, i, j], padded[at], (0, 0))
    return [_cropped(dpadded, x, node["padding"])], {"weight": dweight, "bias": dy.sum((0, 2, 3))}


def _linear(_: Node, inputs: list[Array], own: Parameters) -> Array:
    return inputs[0] @ own["weight"].T + own.get("bias", 0.0)


def _linear_backward(_: Node, inputs: list[Array], own: Parameters, dy: Array) -> Slopes:
    return [dy @ own["weight"]], {"weight": dy.T @ inputs[0], "bias": dy.sum(0)}


def _relu(_: Node, inputs: list[Array], __: Parameters) -> Array:
    return inputs[0] * (inputs[0] > 0)


def _relu_backward(_: Node, inputs: list[Array], __: Parameters, dy: Array) -> Slopes:
    return [dy * (inputs[0] > 0)], {}


def _sigmoid(_: Node, inputs: list[Array], __: Parameters) -> Array:
    return 1 / (1 + np.exp(-inputs[0]))


def _sigmoid_backward(node: Node, inputs: list[Array], own: Parameters, dy: Array) -> Slopes:
    y = _sigmoid(node, inputs, own)
    return [dy * y * (1 - y)], {}


def _mask(node: Node, inputs: list[Array], __: Parameters) -> Array:
    return inputs[0] * node["mask"]


def _mask_backward(node: Node, _: list[Array], __: Parameters, dy: Array) -> Slopes:
    return [dy * node["mask"]], {}


def _max_pool(node: Node, inputs: list[Array], __: Parameters) -> Array:
    padded = _padded(inputs[0], (node["padding"], node["padding"]), -np.inf)
    y = np.zeros((*padded.shape[:2], *_pooled(padded, node)))
    for i, j in np.ndindex(y.shape[2:]):
        y[:, :, i, j] = padded[_window(i, j, node)].max((2, 3))
    return y


def _max_pool_backward(node: Node, inputs: list[Array], __: Parameters, dy: Array) -> Slopes:
    padding = (node["padding"], node["padding"])
    padded = _padded(inputs[0], padding, -np.inf)
    dpadded = np.zeros_like(padded)
    for n, c, i, j in np.ndindex(dy.shape):
        patch = padded[n, c][_window(i, j, node)[2:]]
        u, v = divmod(int(patch.argmax()), patch.shape[1])
        dpadded[n, c, i * node["stride"] + u, j * node["stride"] + v] += dy[n, c, i, j]
    return [_cropped(dpadded, inputs[0], padding)], {}


def _avg_pool(node: Node, inputs: list[Array], __: Parameters) -> Array:
    y = np.zeros((*inputs[0].shape[:2], *_pooled(inputs[0], node)))
    for i, j in np.ndindex(y.shape[2:]):
        y[:, :, i, j] = inputs[0][_window(i, j, node)].mean((2, 3))
    return y


def _avg_pool_backward(node: Node, inputs: list[Array], __: Parameters, dy: Array) -> Slopes:
    dx = np.zeros_like(inputs[0])
    area = node["window"][0] * node["window"][1]
    for i, j in np.ndindex(dy.shape[2:]):
        dx[_window(i, j, node)] += dy[:, :, i, j, None, None] / area
    return [dx], {}


def _flatten(_: Node, inputs: list[Array], __: Parameters) -> Array:
    return inputs[0].reshape(len(inputs[0]), -1)


def _flatten_backward(_: Node, inputs: list[Array], __: Parameters, dy: Array) -> Slopes:
    return [dy.reshape(inputs[0].shape)], {}


def _add(_: Node, inputs: list[Array], __: Parameters) -> Array:
    total = inputs[0]
    for x in inputs[1:]:
        total = total + x
    return total


def _add_backward(_: Node, inputs: list[Array], __: Parameters, dy: Array) -> Slopes:
    return [dy for _ in inputs], {}


def _concat(_: Node, inputs: list[Array], __: Parameters) -> Array:
    return np.concatenate(inputs, axis=1)


def _concat_backward(_: Node, inputs: list[Array], __: Parameters, dy: Array) -> Slopes:
    slopes, first = [], 0
    for x in inputs:
        slopes.append(dy[:, first : first + x.shape[1]])
        first += x.shape[1]
    return slopes, {}


def _batch_norm(node: Node, inputs: list[Array], own: Parameters) -> Array:
    return _like(own.get("weight", 1.0), inputs[0]) * _standardised(node, inputs[0])[0] + _like(
        own["bias"], inputs[0]
    )


def _batch_norm_backward(node: Node, inputs: list[Array], own: Parameters, dy: Array) -> Slopes:
    (x,) = inputs
    standard, deviation = _standardised(node, x)
    parameters = {"bias": _channels(dy).sum(1)}
    if node["scaled"]:
        parameters["weight"] = _channels(dy * standard).sum(1)
    slope = dy * _like(own.get("weight", 1.0), x)
    dx = []
    for d, s in zip(np.split(slope, node["groups"]), np.split(standard, node["groups"]), strict=True):
        count = d.size / d.shape[1]
        dx.append(d - _like(_channels(d).sum(1), d) / count - s * _like(_channels(d * s).sum(1), d) / count)
    return [np.concatenate(dx) / deviation], parameters


def _group_norm(node: Node, inputs: list[Array], own: Parameters) -> Array:
    normal, _ = _normal(node, inputs[0])
    return normal * _like(own["weight"], inputs[0]) + _like(own["bias"], inputs[0])


def _group_norm_backward(node: Node, inputs: list[Array], own: Parameters, dy: Array) -> Slopes:
    (x,) = inputs
    normal, deviation = _normal(node, x)
    parameters = {"weight": _channels(dy * normal).sum(1), "bias": _channels(dy).sum(1)}
    d = (dy * _like(own["weight"], x)).reshape(len(x), node["groups"], -1)
    s = normal.reshape(d.shape)
    dx = d - d.mean(2, keepdims=True) - s * (d * s).mean(2, keepdims=True)
    return [dx.reshape(x.shape) / deviation], parameters


def _normal(node: Node, x: Array) -> tuple[Array, Array]:
    """Return values less the mean of their sample's group, by its deviation; and that deviation."""
    grouped = x.reshape(len(x), node["groups"], -1)
    off = grouped - grouped.mean(2, keepdims=True)
    deviation = np.broadcast_to(np.sqrt((off**2).mean(2, keepdims=True) + node["epsilon"]), off.shape)
    return (off / deviation).reshape(x.shape), deviation.reshape(x.shape)


def _standardised(node: Node, x: Array) -> tuple[Array, Array]:
    """Return values less their mean, by their deviation; and that deviation."""
    standard, deviations = [], []
    for group in np.split(x, node["groups"]):
        flat = _channels(group)
        mean, variance = node.get("statistics") or (
            flat.mean(1),
            ((flat - flat.mean(1)[:, None]) ** 2).mean(1),
        )
        deviation = _like(np.sqrt(variance + node["epsilon"]), group)
        standard.append((group - _like(mean, group)) / deviation)
        deviations.append(np.broadcast_to(deviation, group.shape))
    return np.concatenate(standard), np.concatenate(deviations)


def _channels(x: Array) -> Array:
    """Return all values of each channel, [C, values]."""
    return np.moveaxis(x, 1, 0).reshape(x.shape[1], -1)


def _like(by_channel: Array | float, x: Array) -> Array:
    return np.reshape(by_channel, (1, -1, *(1 for _ in x.shape[2:])))


def _padded(x: Array, padding: tuple[int, int], value: float) -> Array:
    high, wide = padding
    return np.pad(x, ((0, 0), (0, 0), (high, high), (wide, wide)), constant_values=value)


def _cropped(padded: Array, like: Array, padding: tuple[int, int]) -> Array:
    high, wide = padding
    return padded[:, :, high : high + like.shape[2], wide : wide + like.shape[3]]


def _pooled(x: Array, node: Node) -> tuple[int, int]:
    (r, s), stride = node["window"], node["stride"]
    return (x.shape[2] - r) // stride + 1, (x.shape[3] - s) // stride + 1


def _window(i: int, j: int, node: Node) -> tuple[slice, slice, slice, slice]:
    (r, s), stride = node["window"], node["stride"]
    return np.s_[:, :, i * stride : i * stride + r, j * stride : j * stride + s]


_FORWARD = {
    "conv": _conv,
    "linear": _linear,
    "relu": _relu,
    "sigmoid": _sigmoid,
    "mask": _mask,
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "flatten": _flatten,
    "add": _add,
    "concat": _concat,
    "batch_norm": _batch_norm,
    "group_norm": _group_norm,
}

_BACKWARD = {
    "conv": _conv_backward,
    "linear": _linear_backward,
    "relu": _relu_backward,
    "sigmoid": _sigmoid_backward,
    "mask": _mask_backward,
    "max_pool": _max_pool_backward,
    "avg_pool": _avg_pool_backward,
    "flatten": _flatten_backward,
    "add": _add_backward,
    "concat": _concat_backward,
    "batch_norm": _batch_norm_backward,
    "group_norm": _group_norm_backward,
}
