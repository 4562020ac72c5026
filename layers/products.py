"""What computes products of bf16: Intel's tile unit, or what makes the same bits without it."""

from enum import Enum

from layers.kernels import tile_unit
from layers.kernels.tile_host import has_tiles
from layers.kernels.tile_unit import TileUnit


class Unit(Enum):
    """What the sums of products of bf16 are made by; which one changes no bit."""

    REGISTERS = None
    """Vector registers (`layers.kernels.paired_tile`)."""
    HARDWARE = tile_unit.HARDWARE
    SOFTWARE = tile_unit.SOFTWARE
    """Tiles in memory: exact and slow, for tests."""

    @property
    def tiles(self) -> TileUnit | None:
        """What tiles are; None: there are none."""
        tiles: TileUnit | None = self.value
        return tiles


def unit_of_process() -> Unit:
    """Return the fastest unit that this process may use; to be asked first before other threads start."""
    return Unit.HARDWARE if has_tiles() else Unit.REGISTERS
