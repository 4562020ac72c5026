"""Sums as the matrix units of processors make them of bf16 operands, on fp32 registers.

Intel's TDPBF16PS takes BLOCK terms at a time: a chain of fused multiply-adds over those with even numbers,
one over those with odd numbers, each from zero; the sum of the two is added to what was there before.
Subnormal numbers count as zero, and become zero. A tile of two chains an element makes the same bits from
operands that are float32 arrays of bf16 values: a chain here is one there, in the order of the terms.

A term that is zero because nothing is there (channels of padding, columns beside an image) may be left out:
it can change but the sign of a zero, and `Pairs.end` ends each sum by adding +0, which leaves no zero with a
sign.
"""

from collections.abc import Callable, Iterator, Sequence

from llvmlite import ir

from layers.kernels.register_tile import (
    BIAS_RELU,
    LOAD_RELU,
    TILE_ROWS,
    Accumulators,
    advanced,
    each_step,
)
from layers.kernels.simd import REGISTERS_EACH, constant, rectify, vector_constant
from layers.kernels.target import TARGET

BLOCK = 32
"""Terms that are added together."""

HALF = BLOCK // 2
"""Terms of one block of channels."""

PAIRED_ROWS = max(1, TILE_ROWS // 2)
"""Rows of the largest tile: both chains of its sums fit the registers."""

LONG = -1
"""Stands for the length of a loop that is not known before."""

Pointers = Sequence[ir.Value]


def paired_at_once(rows: int, vectors: int) -> int:
    """Return how many vectors of a tile are computed at once: an equal part that fits the registers."""
    for part in range(vectors, 1, -1):
        needed = (2 * rows + 1) * part * REGISTERS_EACH + 1  # both chains, vectors of B, a broadcast
        if vectors % part == 0 and needed <= TARGET.registers:
            return part
    return 1


class Pairs:
    """The sums of a tile while it is computed, and the two chains of the block that is added to them."""

    def __init__(self, builder: ir.IRBuilder, rows: int, vectors: int):
        self.builder, self.rows, self.vectors = builder, rows, vectors
        self.sums, self.even, self.odd = (Accumulators(builder, rows, vectors) for _ in range(3))
        self.slots = self.sums.slots

    def begin(self, start: Callable[[int, int], ir.Value]) -> None:
        """Emit the value of ``start(row, v)`` into each sum."""
        self.sums.begin(start)

    def begin_at(self, start: int, bias: ir.Value) -> None:
        """Emit zeros or, where `start` says so, the vectors at the pointer `bias`."""
        self.sums.begin_at(start, bias)

    def add_block(self, chains: Callable[[Accumulators, Accumulators], None]) -> None:
        """Add what ``chains(even, odd)`` makes of a block's terms, both from zero."""
        for chain in (self.even, self.odd):
            chain.begin(lambda _row, _v: vector_constant(0))
        chains(self.even, self.odd)
        for place, slot in self.slots.items():
            both = (self.builder.load(chain.slots[place]) for chain in (self.even, self.odd))
            self.builder.store(self.builder.fadd(self.builder.load(slot), self.builder.fadd(*both)), slot)

    def end(self) -> None:
        """Leave no zero with a sign."""
        for slot in self.slots.values():
            self.builder.store(self.builder.fadd(self.builder.load(slot), vector_constant(0)), slot)

    def totals(self, start: int) -> Iterator[tuple[int, int, ir.Value]]:
        """Emit the sums, rectified where `start` says so, and give them by row and vector."""
        self.end()
        for (row, v), slot in self.slots.items():
            total = self.builder.load(slot)
            yield row, v, rectify(self.builder, total) if start in {BIAS_RELU, LOAD_RELU} else total


def each_block(
    builder: ir.IRBuilder,
    halves: Sequence[ir.Value],
    inside: Sequence[Sequence[ir.Value]],
    at: Pointers,
    block: Callable[[Pointers, int], None],
) -> None:
    """Emit ``block(pointers, number of halves)`` for each block of a sum over channels and taps.

    Parameters
    ----------
    halves
        The number of HALF terms side by side, at least 1, and the steps from one to the next. Two make a
        block; an odd last one is a block of its own.
    inside
        The loops over taps, each with its length and steps: all taps of a block before the next block.
    """
    number, *steps = halves
    blocks = builder.sdiv(number, constant(2))
    twice = [builder.mul(step, constant(2)) for step in steps]
    each_step(builder, [[blocks, *twice], *inside], at, lambda *pointers: block(pointers, 2))
    with builder.if_then(builder.icmp_signed("!=", builder.srem(number, constant(2)), constant(0))):
        last = advanced(builder, at, blocks, twice)
        each_step(builder, inside, last, lambda *pointers: block(pointers, 1))


def add_products(
    sums: Pairs,
    pairs: Sequence[Sequence[ir.Value]],
    at: Pointers,
    pair: Callable[..., None],
) -> None:
    """Add one block: ``pair(even, odd, *pointers)`` for each pair of terms of the loops `pairs`."""

    def chains(even: Accumulators, odd: Accumulators) -> None:
        each_step(sums.builder, pairs, at, lambda *pointers: pair(even, odd, *pointers))

    sums.add_block(chains)


def add_terms(
    sums: Pairs,
    count: ir.Value,
    steps: Sequence[ir.Value],
    at: Pointers,
    term: Callable[..., None],
) -> None:
    """Add ``term(chain, *pointers)`` of `count` terms in blocks, the last of those that are left."""
    builder = sums.builder
    whole, rest = builder.sdiv(count, constant(BLOCK)), builder.srem(count, constant(BLOCK))
    by_two, by_block = ([builder.mul(step, constant(n)) for step in steps] for n in (2, BLOCK))
    one = constant(1)

    def pair(even: Accumulators, odd: Accumulators, *pointers: ir.Value) -> None:
        term(even, *pointers)
        term(odd, *advanced(builder, pointers, one, steps))

    def block(*pointers: ir.Value) -> None:
        add_products(sums, [[constant(BLOCK // 2), *by_two]], pointers, pair)

    def last(even: Accumulators, odd: Accumulators) -> None:
        pairs = builder.sdiv(rest, constant(2))
        pointers = advanced(builder, at, whole, by_block)
        each_step(builder, [[pairs, *by_two]], pointers, lambda *pointers: pair(even, odd, *pointers))
        with builder.if_then(builder.icmp_signed("!=", builder.srem(rest, constant(2)), constant(0))):
            term(even, *advanced(builder, pointers, pairs, by_two))

    each_step(builder, [[whole, *by_block]], at, block)
    with builder.if_then(builder.icmp_signed(">", rest, constant(0))):
        sums.add_block(last)


def paired_stream(
    sums: Pairs,
    run: int,
    loops: Sequence[Sequence[ir.Value]],
    at: Pointers,
    term: Callable[..., None],
) -> None:
    """Add ``term(chain, *pointers)`` of all terms of a nest of one loop, or of two.

    Parameters
    ----------
    run
        Terms of the inner loop of two: HALF or BLOCK; LONG: there is one loop, of any multiple of HALF.
    """
    builder = sums.builder
    *outer, (length, *steps) = loops
    by_two, by_half = ([builder.mul(step, constant(n)) for step in steps] for n in (2, HALF))
    pairs = [constant(HALF // 2), *by_two]

    def pair(even: Accumulators, odd: Accumulators, *pointers: ir.Value) -> None:
        term(even, *pointers)
        term(odd, *advanced(builder, pointers, constant(1), steps))

    def block(halves: Sequence[ir.Value]) -> Callable[[Pointers, int], None]:
        return lambda pointers, number: add_products(
            sums, [[constant(number), *halves], pairs], pointers, pair
        )

    if run == BLOCK:
        add = block(by_half)
        each_step(builder, outer, at, lambda *pointers: add(pointers, 2))
    elif run == HALF:
        ((number, *halves),) = outer
        each_block(builder, [number, *halves], [], at, block(halves))
    else:
        each_block(builder, [builder.sdiv(length, constant(HALF)), *by_half], [], at, block(by_half))
