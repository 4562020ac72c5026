"""Mixup and CutMix: what is mixed with what, and by which shares."""

import numpy as np
import pytest

from engine.config.errors import UserError
from engine.data.mix import Mix

SHAPE = (3, 12, 10)


def images():
    rng = np.random.default_rng(0)
    return (rng.standard_normal(SHAPE).astype(np.float32) for _ in range(2))


def shares(mix, count=2000):
    x, other = images()
    return np.array([mix.apply(x.copy(), other.copy(), seed=1, epoch=0, sample=n) for n in range(count)])


def test_mixup_adds_a_share_of_one_and_the_rest_of_the_other():
    x, other = images()
    mixed = x.copy()
    share = Mix(mixup=1.0).apply(mixed, other.copy(), seed=1, epoch=2, sample=3)
    assert 0 < share < 1
    np.testing.assert_allclose(mixed, share * x + (1 - share) * other, rtol=1e-5, atol=1e-6)


def test_cutmix_puts_a_box_over_the_image_and_keeps_the_share_of_the_rest():
    for sample in range(50):
        x, other = images()
        mixed = x.copy()
        share = Mix(cutmix=1.0).apply(mixed, other.copy(), seed=1, epoch=0, sample=sample)
        replaced = (mixed == other).all(axis=0)
        assert ((mixed == x).all(axis=0) | replaced).all()
        assert share == pytest.approx(1 - replaced.mean())
        rows, columns = np.nonzero(replaced)
        if rows.size:  # a box, whole
            assert replaced.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)


@pytest.mark.parametrize("value", [1.0, 0.5, 0.2])
def test_shares_are_of_the_beta_distribution(value):
    found = shares(Mix(mixup=value))
    assert found.mean() == pytest.approx(0.5, abs=0.03)  # 2,000 draws: more than three deviations
    assert found.var() == pytest.approx(1 / (4 * (2 * value + 1)), rel=0.1)


def test_with_both_a_coin_decides():
    x, other = images()
    cut = []
    for sample in range(200):
        mixed = x.copy()
        Mix(1.0, 1.0).apply(mixed, other.copy(), seed=1, epoch=0, sample=sample)
        cut.append(bool(((mixed == x) | (mixed == other)).all()))
    assert 60 < sum(cut) < 140


def test_everything_is_keyed_by_seed_epoch_and_sample():
    def drawn(**key):
        x, other = images()
        partner = Mix(mixup=0.5).partner(1000, **key)
        share = Mix(mixup=0.5).apply(x, other, **key)
        return partner, share, x.tobytes()

    key = {"seed": 1, "epoch": 2, "sample": 3}
    assert drawn(**key) == drawn(**key)
    for name in key:
        assert all(a != b for a, b in zip(drawn(**key), drawn(**{**key, name: 9}), strict=True))
    partners = {Mix(mixup=0.5).partner(5, seed=1, epoch=0, sample=n) for n in range(100)}
    assert partners == set(range(5))


@pytest.mark.parametrize("value", [0.3, 0.4, 0.9, 1e-9])
def test_shares_that_cannot_be_drawn_exactly_are_refused(value):
    with pytest.raises(UserError, match=rf"^mixup: got {value}; must be 0, or 1 over a whole number"):
        Mix(mixup=value).check(SHAPE)
    Mix(0.1, 0.5).check(SHAPE)
    Mix().check((7,))
    Mix(mixup=1.0).check((7,))
    with pytest.raises(UserError, match=r"^cutmix: samples have shape \(7,\); must be images"):
        Mix(cutmix=1.0).check((7,))
