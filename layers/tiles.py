"""The working memory of layers whose products are made by the tile unit: two packed operands, and tiles."""

from layers.layer import Array, Buffers, Shape

_NAMES = "packed_a", "packed_b", "tiles"


def largest(*rooms: tuple[int, int, tuple[int, int]]) -> dict[str, Shape]:
    """Return the shapes by name that are enough for each pass of a layer: they take turns.

    Parameters
    ----------
    rooms
        Floats of both operands, and (threads, floats of each).
    """
    a, b, tiles = zip(*rooms, strict=True)
    return dict(zip(_NAMES, ((max(a),), (max(b),), max(tiles)), strict=True))


def packed(at: Buffers) -> tuple[Array, ...]:
    """Return the working memory."""
    return tuple(at.scratch[name] for name in _NAMES)  # type: ignore[misc] # float32, as asked for
