"""The cut of a row of outputs into register tiles."""

from functools import lru_cache


@lru_cache(maxsize=1 << 12)  # a small layer's kernel takes no longer
def split_rows(count: int, most: int) -> tuple[int, int]:
    """Return (rows, tail): `count` rows as count // rows tiles of `rows` and one of `tail` (0: none).

    A tile with few rows has too few accumulators to hide the latency of the multiply-add, and costs
    about as much as one of `most // 2`; the cut with the least cost wins, then the one with the
    largest tile. No choice changes a bit of the result.
    """
    shortest = most // 2

    def cost(rows: int) -> int:
        full, tail = divmod(count, rows)
        return full * max(rows, shortest) + (max(tail, shortest) if tail else 0)

    rows = min(range(1, min(count, most) + 1), key=lambda rows: (cost(rows), -rows))
    return rows, count % rows
