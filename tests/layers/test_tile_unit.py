"""The tile unit in software against the model, and the code for the unit itself."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llvmlite import ir
from numba import float32, int64, types, uint8, uint16
from numba.extending import intrinsic
from numpy.typing import NDArray

from layers.kernels.jit import kernel
from layers.kernels.register_tile import LOAD
from layers.kernels.simd import constant
from layers.kernels.target import NEON, TARGET
from layers.kernels.tile_block import (
    Pairs,
    TileBlock,
    TileLoop,
    Tiles,
    begin_tiles,
    end_tiles,
    multiply_tiles,
)
from layers.kernels.tile_unit import MEMORY_FLOATS, SOFTWARE, _Hardware
from tests.layers import bf16_model
from tests.layers.test_float_mode import keeps_small_numbers

Array = NDArray[np.float32]
ROWS, STEPS = 11, 3
REPOSITORY = Path(__file__).parents[2]

BLOCK = TileBlock(SOFTWARE, 2, 2, 2, LOAD)


@kernel(int64, int64, int64, float32[::1], uint16[:, :, ::1], uint16[:, :, ::1], float32[:, ::1])
def multiply(worker, first, last, memory, a, b, c):  # noqa: ARG001
    """Add to c, two by two tiles: a is [2 * ROWS, STEPS, 32], b [STEPS, 2, 512]."""
    at, c_at = memory.ctypes.data, c.ctypes.data
    begin_tiles(BLOCK, at, ROWS)
    addresses = (a.ctypes.data, a.ctypes.data + ROWS * a.strides[0])
    sums = Tiles((c_at, c_at + ROWS * c.strides[0]), c.strides[0], 64)
    multiply_tiles(
        BLOCK, at, Tiles(addresses, a.strides[0], 0), Pairs(b.ctypes.data, 1024), sums, sums,
        (TileLoop(STEPS, 64, b.strides[0]),),
    )  # fmt: skip
    end_tiles(BLOCK, at)


def _draw(*shape: int, exponents: int, seed: int) -> Array:
    """Draw values of bf16 of any size."""
    generator = np.random.default_rng(seed)
    powers = generator.uniform(-exponents, exponents, shape)
    return bf16_model.rounded((generator.standard_normal(shape) * 2.0**powers).astype(np.float32))


def _halves(values: Array) -> NDArray[np.uint16]:
    return (values.view(np.uint32) >> 16).astype(np.uint16)


@pytest.mark.parametrize("exponents", [1, 12, 63, 70])
def test_software_computes_as_the_model_says(exponents: int) -> None:
    terms = 32 * STEPS
    a = _draw(2 * ROWS, terms, exponents=exponents, seed=1)
    b = _draw(terms, 32, exponents=exponents, seed=2)
    a[:, ::7] = np.float32(1e-39)
    b[5::11] *= np.float32(2.0**-100)
    a, b = bf16_model.rounded(a), bf16_model.rounded(b)
    c = _draw(2 * ROWS, 32, exponents=exponents, seed=3)
    c[::3, ::5] = np.float32(-1e-40)
    pairs = b.reshape(STEPS, 16, 2, 2, 16).transpose(0, 3, 1, 4, 2)
    computed = np.full((2 * ROWS + 1, 32), 7, np.float32)
    computed[:-1] = c
    multiply(
        0, 0, 0, np.zeros(MEMORY_FLOATS, np.float32), _halves(a.reshape(2 * ROWS, STEPS, 32)),
        np.ascontiguousarray(_halves(pairs.copy()).reshape(STEPS, 2, 512)), computed,
    )  # fmt: skip
    expected = bf16_model.product(c, a, b)
    np.testing.assert_array_equal(computed[:-1].view(np.uint32), expected.view(np.uint32))
    assert (computed[-1] == 7).all()  # a tile has no more rows than it is configured for
    assert keeps_small_numbers()  # also after it


class _WritesOnly(_Hardware):
    """Leaves out the instructions that only the unit knows."""

    def _call(self, name: str, *arguments: ir.Value) -> None:
        pass


@intrinsic
def write_configuration(_typing_context, memory, rows):  # noqa: ARG001
    def codegen(_context, builder, _signature, arguments):
        memory, rows = arguments
        _WritesOnly(builder, memory).configure([rows] * 4 + [constant(16)] * 4)

    return types.void(types.int64, types.int64), codegen


def test_the_configuration_is_what_the_unit_reads() -> None:
    @kernel(int64, int64, int64, uint8[::1], int64)
    def configure(worker, first, last, memory, rows):  # noqa: ARG001
        write_configuration(memory.ctypes.data, rows)

    memory = np.full(65, 7, np.uint8)
    configure(0, 0, 0, memory, 11)
    # palette 1, from row 0; at 16 the bytes of a row of each tile; at 48 the rows of each
    expected = [1, *[0] * 15, *[64, 0] * 8, *[0] * 16, *[11] * 4, *[16] * 4, *[0] * 8, 7]
    assert memory.tolist() == expected


@pytest.mark.skipif(TARGET.simd == NEON, reason="makes code for x86")
def test_loops_for_the_unit_load_each_tile_once_and_keep_their_sums(tmp_path: Path) -> None:
    found = _code_for_the_unit(tmp_path)
    largest = {"convolution": (5, 4), "product": (4, 4), "weights": (4, 4)}  # loads and products
    for name, code in found.items():
        assert code["all"]["ldtilecfg"] == code["all"]["tilerelease"] == 1, name
        for loop in code["loops"]:
            assert loop["tilestored"] == loop["tilezero"] == 0, name
        pairs = {(loop["tileloadd"], loop["tdpbf16ps"]) for loop in code["loops"]}
        assert max(pairs) == largest[name], name
    # B, A and the sums, as the assembler orders them
    assert found["product"]["products"] == [[4, 6, 0], [5, 6, 1], [4, 7, 2], [5, 7, 3]]
    assert found["convolution"]["products"] == [[4, 5, 0], [4, 6, 1], [4, 7, 2], [4, 5, 3]]


def _code_for_the_unit(folder: Path) -> dict[str, Any]:
    forced = {"NUMBA_CPU_NAME": "sapphirerapids", "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(folder)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.layers.tile_code"],
        capture_output=True, text=True, check=False, cwd=REPOSITORY, env={**os.environ, **forced},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))
