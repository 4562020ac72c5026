"""The equations of hybrid parallelism on worked cases, in MB of a rank and step."""

import pytest

from engine.planner import balance


@pytest.mark.parametrize(
    ("ranks", "batch", "inputs", "outputs", "best", "groups", "hybrid", "model", "data"),
    [
        (64, 256, 4096, 4096, 2.0, 2, 8.4, 8.4, 134.2),
        (128, 512, 4096, 4096, 4.0, 4, 8.4, 16.8, 134.2),
        (64, 256, 25088, 4096, 2.0, 2, 51.4, 51.4, 822.1),
        (64, 256, 36864, 3072, 2.3, 2, 66.1, 75.5, 906.0),
        (16, 1024, 2048, 2048, 2.8, 2, 12.6, 16.8, 33.6),
        (16, 1024, 2048, 2048, 2.8, 4, 12.6, 16.8, 33.6),
    ],
)
def test_the_equations_give_the_worked_cases(
    ranks, batch, inputs, outputs, best, groups, hybrid, model, data
):
    assert balance.best_groups(outputs, batch, ranks) == pytest.approx(best, abs=0.05)
    for count, want in ((groups, hybrid), (1, model), (ranks, data)):
        megabytes = balance.exchanged(inputs, outputs, batch, ranks, count) / 1e6
        assert megabytes == pytest.approx(want, rel=6e-3)


def test_overlap_halves_what_goes_between_groups_only():
    assert balance.between_groups(10, 20, 8, 4, overlap=1.0) == balance.between_groups(10, 20, 8, 4) / 2
