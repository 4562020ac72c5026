"""The balance equations: what a layer costs a rank in FLOP and in bytes, and how far they hide each other.

Das et al. 2016, arXiv:1602.06709, sections on data parallelism, on model and hybrid parallelism, and on the
balance of computation and communication. In their words: N ranks, a global minibatch of MB, MB_node = MB / N,
ifm and ofm input and output feature maps, kw x kh the kernel, iw x ih and ow x oh the maps; G groups of N / G
ranks, model parallel inside a group and data parallel between groups. Values are float32. Bytes count what
goes out and what comes in, (2 - overlap) times the data; `overlap` is how far the two directions go on at the
same time, from 0 to 1.
"""

from collections.abc import Sequence

from layers.work import PASSES, Extents

FLOAT = 4
"""Bytes."""


def computation(layer: Extents, samples: float) -> float:
    """Return the FLOP of all three passes: 3 * 2 * MB_node * ifm * ofm * kw * kh * ow * oh.

    Parameters
    ----------
    samples
        MB_node, the samples of one rank.
    """
    return len(PASSES) * 2 * samples * layer.weights * layer.oh * layer.ow


def data_parallel(layer: Extents, *, overlap: float = 0.0) -> float:
    """Return the bytes of weights and gradients: 4 * ifm * ofm * kw * kh * (2 - overlap).

    The paper's form, for many ranks: on N of them each sends (N - 1) / N of it.
    """
    return FLOAT * layer.weights * (2 - overlap)


def model_parallel(layer: Extents, batch: int) -> float:
    """Return the bytes of activations and their gradients: 2 * 4 * ifm * iw * ih * MB."""
    return 2 * FLOAT * layer.ifm * layer.ih * layer.iw * batch


def intensity(layer: Extents, samples: float, *, overlap: float = 0.0) -> float:
    """Return comp / comm of data parallelism in FLOP per byte: 1.5 * ow * oh * MB_node at full overlap.

    Features, kernel and stride cancel out.
    """
    return computation(layer, samples) / data_parallel(layer, overlap=overlap)


def platform_ratio(flops_per_s: float, bytes_per_s: float) -> float:
    """Return the FLOP that a rank can do per byte that it can send: below it, a layer is bound by bandwidth.

    336 for two sockets of E5-2698v3 with FDR InfiniBand, 1336 for 18 cores of 2.9 GHz with 10 Gb Ethernet.
    """
    return flops_per_s / bytes_per_s


def prefers_model_parallel(layer: Extents, batch: int, *, overlap: float = 0.0) -> bool:
    """Return whether activations are less than weights: ofm * kw * kh * (2 - overlap) > 2 * iw * ih * MB.

    For fully connected layers without overlap: ofm > MB.
    """
    return data_parallel(layer, overlap=overlap) > model_parallel(layer, batch)


def between_groups(layer: Extents, ranks: int, groups: int, *, overlap: float = 0.0) -> float:
    """Return the bytes of weights and gradients: 4 * ifm * ofm * kw * kh * (2 - overlap) * G / N.

    0 for one group.
    """
    return 0.0 if groups == 1 else data_parallel(layer, overlap=overlap) * groups / ranks


def inside_group(layer: Extents, batch: int, ranks: int, groups: int) -> float:
    """Return the bytes of activations and their gradients: 2 * 4 * ifm * iw * ih * MB / G.

    0 for groups of one rank.
    """
    return 0.0 if groups == ranks else model_parallel(layer, batch) / groups


def hybrid(layer: Extents, batch: int, ranks: int, groups: int, *, overlap: float = 0.0) -> float:
    """Return the bytes of a layer in G groups: those inside and those between them.

    As many groups as ranks is data parallel, one group is model parallel.
    """
    return between_groups(layer, ranks, groups, overlap=overlap) + inside_group(layer, batch, ranks, groups)


def best_groups(layer: Extents, batch: int, ranks: int, *, overlap: float = 0.0) -> float:
    """Return G*, where `hybrid` is least: sqrt(2 * N * MB * iw * ih / (ofm * kw * kh * (2 - overlap))).

    sqrt(N * MB / ofm) for fully connected layers without overlap. One group, and as many as ranks, are to be
    compared with it: there one of the two terms vanishes.
    """
    return float((ranks * model_parallel(layer, batch) / data_parallel(layer, overlap=overlap)) ** 0.5)


def hiding_computation(flop: Sequence[float], layer: int) -> float:
    """Return the FLOP that a gradient can hide behind: ocomp_i = comp_i / 3 + sum over j < i of comp_j.

    The gradient is computed before backward_data, so it travels during that, during the rest of the backward
    pass, and during the next forward pass of the layers before this one.

    Parameters
    ----------
    flop
        comp_j of each layer, as from `computation`, in order of the forward pass.
    """
    return flop[layer] / len(PASSES) + sum(flop[:layer])


def hidden_communication(volumes: Sequence[float], layer: int) -> float:
    """Return the bytes to be sent in that time: ocomms_i = sum over j <= i of comms_j."""
    return sum(volumes[: layer + 1])


def bubble(
    flop: Sequence[float], volumes: Sequence[float], layer: int, *, flops_per_s: float, bytes_per_s: float
) -> float:
    """Return the seconds for which a layer waits: max(0, ocomms_i / bandwidth - ocomp_i / flops)."""
    sending = hidden_communication(volumes, layer) / bytes_per_s
    return max(0.0, sending - hiding_computation(flop, layer) / flops_per_s)


def exposed(
    flop: Sequence[float], volumes: Sequence[float], *, flops_per_s: float, bytes_per_s: float
) -> float:
    """Return the seconds of a step in which nothing is computed: the longest bubble.

    Not their sum: what one layer has waited, the layers behind it need not wait again.
    """
    return max(
        (
            bubble(flop, volumes, layer, flops_per_s=flops_per_s, bytes_per_s=bytes_per_s)
            for layer in range(len(flop))
        ),
        default=0.0,
    )


def efficiency(compute_s: float, exposed_s: float) -> float:
    """Return the scaling efficiency T_comp / (T_comp + exposed bubble); times N it is the speed-up."""
    return compute_s / (compute_s + exposed_s)
