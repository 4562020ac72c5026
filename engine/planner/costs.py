"""Estimate the seconds of a layer's passes on one rank: measured where a cluster has them, else nominal.

Nominal times are a roofline (Williams et al. 2009): the FLOP at the share of the peak that kernels reach, or
the bytes at the memory's rate, whichever takes longer. Layers without multiply-adds are bound by memory
(normalisations, sums, activations, pooling), and so are depthwise convolutions with small kernels, and fully
connected layers with few samples, which read all weights for them. On the machines of the paper
single nodes come out 4 % below to 16 % above what is reported of them (VGG-A 35 images/s against 28 to 33 on
`cori_phase1`, 30 against 28 on `aws_c4_8xlarge`; OverFeat-FAST 98 against 90 to 95 and 83 against 86; CD-DNN
5,300 frames/s against 4,600 on `endeavor_fdr`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from engine.planner.balance import FLOAT
from engine.planner.cluster import Cluster, Kernel
from layers.layer import Layer, Shape
from layers.work import BACKWARD_DATA, BACKWARD_WEIGHTS, FORWARD
from layers.wrapped import unwrapped

BLOCK = 16
"""Channels of a task: the lanes of a SIMD register, or two of the narrow ones."""


@dataclass(frozen=True)
class Passes:
    """Seconds of a layer's passes; 0 for a pass that it lacks."""

    forward: float
    backward_weights: float
    backward_data: float


class Costs:
    """Costs of one rank while all ranks of its machine compute, as many as have cores of their own.

    Parameters
    ----------
    threads
        Kernel threads of the rank.
    """

    def __init__(self, cluster: Cluster, *, threads: int):
        self.cluster, self.threads = cluster, threads
        self._rows: dict[str, list[Kernel]] = {}
        for kernel in sorted(cluster.kernels, key=lambda kernel: kernel.samples):
            self._rows.setdefault(kernel.layer, []).append(kernel)
        self._passes = cache(self._find_passes)

    def passes(self, layer: Layer, inputs: tuple[Shape, ...], samples: int) -> Passes:
        """Return the seconds of a layer's passes.

        Parameters
        ----------
        inputs
            Shapes of one sample of its inputs.
        samples
            Samples of its output on this rank.
        """
        return self._passes(unwrapped(layer), inputs, samples)

    def load(self, samples: int, shape: Shape) -> float:
        """Return the seconds of copying samples into the blocked layout."""
        moved = 2 * FLOAT * math.prod(shape)
        return self._measured_or(load_problem(shape), samples, lambda n, _: _only(n * moved / self._memory))

    def loss(self, samples: int, classes: int) -> float:
        """Return the seconds of the loss and its gradient."""
        moved = 3 * FLOAT * classes  # read, once more, write
        return self._measured_or(loss_problem(classes), samples, lambda n, _: _only(n * moved / self._memory))

    def add(self, floats: int) -> float:
        """Return the seconds of adding gradients to others."""
        return 3 * FLOAT * floats / self._memory

    def _measured_or(self, problem: str, samples: int, nominal: "Nominal") -> float:
        return self._measured(problem, samples, nominal).forward

    def _find_passes(self, layer: Layer, inputs: tuple[Shape, ...], samples: int) -> Passes:
        def nominal(count: int, threads: int) -> Passes:
            return self._nominal(layer, inputs, count, threads)

        return self._measured(problem(layer, inputs), samples, nominal)

    def _measured(self, key: str, samples: int, nominal: "Nominal") -> Passes:
        """Interpolate between measured rows; beyond them, the nearest times the ratio of nominal ones."""
        rows = self._rows.get(key, [])
        wanted = nominal(samples, self.threads)
        if not rows:
            return wanted
        nearest = min((row.threads for row in rows), key=lambda count: abs(count - self.threads))
        rows = [row for row in rows if row.threads == nearest]
        below = max((row for row in rows if row.samples <= samples), key=_samples, default=rows[0])
        above = min((row for row in rows if row.samples >= samples), key=_samples, default=rows[-1])
        if below.samples <= samples <= above.samples:
            part = (samples - below.samples) / max(1, above.samples - below.samples)
            found = _each(lambda low, high: low + part * (high - low), below, above)
            if nearest == self.threads:
                return found
            return _scaled(found, wanted, nominal(samples, nearest))
        end = above if samples < below.samples else below
        return _scaled(end, wanted, nominal(end.samples, nearest))

    @property
    def _memory(self) -> float:
        """Bytes/s of the memory for this rank."""
        machine = self.cluster.machine
        with_cores = max(1, machine.cores // self._cores(self.threads))
        return machine.memory_bytes_per_s / min(machine.ranks * machine.hosts, with_cores)

    def _cores(self, threads: int) -> int:
        return min(threads, self.cluster.machine.cores)

    def _nominal(self, layer: Layer, inputs: tuple[Shape, ...], samples: int, threads: int) -> Passes:
        elementwise = {
            direction: FLOAT * samples * layer.elementwise_floats(direction, *inputs) / self._memory
            for direction in (FORWARD, BACKWARD_WEIGHTS, BACKWARD_DATA)
        }
        form = layer.extents(*inputs)
        machine = self.cluster.machine
        if form is None:
            peak = machine.convolution_efficiency * machine.flops_per_s / machine.cores * self._cores(threads)
            multiplying = samples * layer.flops(*inputs) / peak
            return Passes(**{name: max(multiplying, seconds) for name, seconds in elementwise.items()})
        convolution, gradient = machine.convolution_efficiency, machine.weight_gradient_efficiency
        if form.is_fully_connected:
            convolution = gradient = machine.fully_connected_efficiency
        read = FLOAT * samples * sum(math.prod(shape) for shape in inputs)
        written = FLOAT * samples * math.prod(layer.output_shape(*inputs))
        moved, flop = read + written + FLOAT * form.weights, samples * form.flops
        input_blocks, output_blocks = math.ceil(form.ifm / BLOCK), math.ceil(form.ofm / BLOCK)

        def seconds(direction: str, efficiency: float, tasks: int) -> float:
            multiplying = flop / (efficiency * self._flops_per_s(tasks, threads))
            return max(multiplying, moved / self._memory) + elementwise[direction]

        return Passes(
            seconds(FORWARD, convolution, samples * output_blocks * form.oh),
            seconds(
                BACKWARD_WEIGHTS, gradient, _gradient_tasks(input_blocks * output_blocks, samples, threads)
            ),
            seconds(BACKWARD_DATA, convolution, samples * input_blocks * form.ih),
        )

    def _flops_per_s(self, tasks: int, threads: int) -> float:
        """Return the peak of a rank's cores, less the share of cores that idle for want of a last task."""
        machine, cores = self.cluster.machine, self._cores(threads)
        busy = tasks / (math.ceil(tasks / cores) * cores)
        return machine.flops_per_s / machine.cores * cores * busy


Nominal = Callable[[int, int], Passes]
"""``nominal(samples, threads)``."""


def problem(layer: Layer, inputs: tuple[Shape, ...]) -> str:
    """Return a layer's problem as text: layers with the same text cost the same, whatever their names."""
    return f"{layer.cost_key()} of {' '.join(str(list(shape)) for shape in inputs)}"


def load_problem(shape: Shape) -> str:
    """Return the problem of copying samples into the blocked layout, as text."""
    return f"load of {list(shape)}"


def loss_problem(classes: int) -> str:
    """Return the problem of the loss, as text."""
    return f"loss of [{classes}]"


def _gradient_tasks(blocks: int, samples: int, threads: int) -> int:
    """Return the tasks of a weight gradient: pairs of blocks; samples too, where those are too few."""
    return blocks if blocks >= threads else blocks * samples


def _only(seconds: float) -> Passes:
    return Passes(seconds, 0.0, 0.0)


def _samples(row: Kernel) -> int:
    return row.samples


def _each(combine: Callable[..., float], *many: Kernel | Passes) -> Passes:
    return Passes(
        combine(*(each.forward for each in many)),
        combine(*(each.backward_weights for each in many)),
        combine(*(each.backward_data for each in many)),
    )


def _scaled(measured: Kernel | Passes, wanted: Passes, there: Passes) -> Passes:
    """Return measured seconds times the ratio of two nominal ones."""
    return _each(lambda seconds, up, down: seconds * up / down if down else seconds, measured, wanted, there)
