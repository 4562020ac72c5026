"""Numbers as people read them."""

import pytest

from engine.report import figures


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "\N{EN DASH}"), (0.0, "0 µs"), (12.3e-6, "12 µs"), (0.00229, "2.29 ms"), (0.0229, "22.9 ms"),
        (0.9, "900 ms"), (1.61, "1.61 s"), (59.9, "59.9 s"), (83, "1 min 23 s"), (3599, "59 min 59 s"),
        (3660, "1 h 01 min"), (200_000, "55 h 33 min"), (1_000_000, "11 d 14 h"),
    ],
)  # fmt: skip
def test_durations(seconds, said):
    assert figures.duration(seconds) == said


def test_sizes_rates_and_shares():
    assert figures.size(206_000_000) == "206 MB"
    assert figures.size(674_000) == "674 kB"
    assert figures.size(12) == "12 B"
    assert figures.rate(2.695e11, "FLOP") == "270 GFLOP/s"
    assert figures.percent(0.9861) == "98.6 %"
    assert figures.plain(0.00237025) == "0.00237"
    assert figures.plain(27983.5) == "27,984"
    assert figures.whole(62250.0) == "62,250"
    for tell in (figures.size, figures.percent, figures.plain, figures.whole):
        assert tell(None) == figures.NOTHING
    assert figures.rate(None, "B") == figures.NOTHING


def test_a_table_of_times_has_the_same_decimals_everywhere():
    assert [figures.milliseconds(each, 0.004) for each in (0.004, 0.0000004)] == ["4.000", "0.000"]
    assert figures.milliseconds(0.0123, 0.05) == "12.30"
    assert figures.milliseconds(1.2345, 2.0) == "1,234.5"
    assert figures.milliseconds(None, 2.0) == figures.NOTHING
