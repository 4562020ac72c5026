"""Optimizers on pieces of strips, against their formulas in float64 and against PyTorch's."""

import math
from dataclasses import replace

import numpy as np
import pytest

from engine.config.recipe import OPTIMIZERS, OptimizerFields
from engine.training.optimizer import LAMB, LARS, SGD, AdamW, averaging, optimizer_of
from engine.training.update import Piece

COUNT, STEPS, RATE = 1003, 5, 0.01
ALL = {
    "sgd": SGD(0.9, True, 1e-2),
    "lars": LARS(0.9, 1e-2, 0.02),
    "adamw": AdamW((0.9, 0.99), 1e-8, 1e-2),
    "lamb": LAMB((0.9, 0.99), 1e-6, 1e-2),
}


def problem(seed=0):
    """Return weights [COUNT] and a gradient for each step, float32."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal(COUNT, np.float32), rng.standard_normal((STEPS, COUNT), np.float32)


def pieces(weights, gradient, moments, cuts, **factors):
    """Yield the pieces of a tensor that is cut at some places."""
    for start, stop in zip((0, *cuts), (*cuts, COUNT), strict=True):
        own = slice(start, stop)
        yield Piece(weights[own], gradient[own], tuple(each[own] for each in moments), **factors)


def run(optimizer, cuts=(), **factors):
    """Return weights and moments after some steps on one tensor, in the order of a bucket's calls."""
    weights, gradients = problem()
    moments = tuple(np.zeros(COUNT, np.float32) for _ in optimizer.moments)
    for step, gradient in enumerate(gradients):
        update = optimizer.at(step, RATE)
        parts = list(pieces(weights, gradient, moments, cuts, **factors))
        for piece in parts:
            update.direct(piece)
        norms = (float(np.linalg.norm(each.astype(np.float64))) for each in (weights, gradient))
        trust = update.trust(*norms, factors.get("decay", 1.0))
        for piece in parts:
            update.apply(replace(piece, trust=trust))
    return weights, *moments


def expected(optimizer, decay=1.0, rate=1.0):
    """Return the weights after the same steps by the formulas, in float64."""
    weights, gradients = problem()
    w = weights.astype(np.float64)
    m, v = np.zeros(COUNT), np.zeros(COUNT)
    wd, own = optimizer.weight_decay * decay, RATE * rate
    for step, g in enumerate(gradients.astype(np.float64), start=1):
        match optimizer:
            case SGD(momentum, nesterov, _):
                slope = g + wd * w
                m = momentum * m + slope
                w = w - own * (slope + momentum * m if nesterov else m)
            case LARS(momentum, _, coefficient):
                trust = coefficient * np.linalg.norm(w) / (np.linalg.norm(g) + wd * np.linalg.norm(w))
                m = momentum * m + own * (trust if decay else 1) * (g + wd * w)
                w = w - m
            case AdamW((first, second), eps, _) | LAMB((first, second), eps, _):
                m, v = first * m + (1 - first) * g, second * v + (1 - second) * g * g
                u = m / (1 - first**step) / (np.sqrt(v / (1 - second**step)) + eps) + wd * w
                if isinstance(optimizer, LAMB) and decay:
                    u *= np.linalg.norm(w) / np.linalg.norm(u)
                w = w - own * u
    return w


@pytest.mark.parametrize("factors", [{}, {"rate": 3.0}, {"decay": 0.0}])
@pytest.mark.parametrize("name", ALL)
def test_updates_follow_the_formulas(name, factors):
    weights, *_ = run(ALL[name], **factors)
    want = expected(ALL[name], **factors)
    np.testing.assert_allclose(weights, want, rtol=1e-5, atol=1e-6)  # some float32 roundings a step
    assert np.abs(weights - problem()[0]).max() > 1e-3


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_every_form_of_sgd_follows_its_formula(momentum, weight_decay, nesterov):
    optimizer = SGD(momentum, nesterov, weight_decay)
    weights, *_ = run(optimizer)
    np.testing.assert_allclose(weights, expected(optimizer), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cuts", [(1,), (7,), (16, 32), (1000,), (500, 501, 1002)])
@pytest.mark.parametrize("name", ALL)
def test_where_a_strip_is_cut_changes_no_bit(name, cuts):
    for whole, cut in zip(run(ALL[name]), run(ALL[name], cuts), strict=True):
        assert cut.tobytes() == whole.tobytes()


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_sgd_and_adamw_are_pytorchs(weight_decay):
    torch = pytest.importorskip("torch")
    ours = {
        "sgd": SGD(0.9, True, weight_decay),
        "adamw": AdamW(weight_decay=weight_decay),
    }
    for name, optimizer in ours.items():
        weights, gradients = problem()
        theirs = torch.nn.Parameter(torch.from_numpy(weights.copy()))
        if name == "sgd":
            other = torch.optim.SGD([theirs], RATE, momentum=0.9, nesterov=True, weight_decay=weight_decay)
        else:
            other = torch.optim.AdamW([theirs], RATE, weight_decay=weight_decay)
        for gradient in gradients:
            theirs.grad = torch.from_numpy(gradient.copy())
            other.step()
        found, *_ = run(optimizer)
        want = theirs.detach().numpy()
        np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-6)  # theirs rounds in another order


def test_moments_are_kept_from_step_to_step_and_corrected_by_the_step_alone():
    weights, gradients = problem()
    first = AdamW((0.9, 0.999)).at(0, RATE)
    moments = np.zeros((2, COUNT), np.float32)
    before = weights.copy()
    first.apply(Piece(weights, gradients[0], tuple(moments)))
    # without memory the corrected moments are the gradient and its square: each step is the rate long
    np.testing.assert_allclose(before - weights, RATE * np.sign(gradients[0]), rtol=1e-3)
    late = AdamW((0.9, 0.999)).at(10**7, RATE)  # its powers have as many digits, but take no time
    late.apply(Piece(weights, gradients[1], tuple(moments)))
    assert np.isfinite(weights).all()


@pytest.mark.parametrize("name", ["lars", "lamb"])
def test_a_tensor_without_a_norm_or_without_decay_has_the_rate_of_all(name):
    trust = ALL[name].at(0, RATE).trust
    assert trust(0.0, 3.0, 1.0) == trust(3.0, 0.0, 1.0) == trust(3.0, 3.0, 0.0) == 1.0
    assert trust(3.0, 2.0, 1.0) != 1.0


def test_the_trust_of_lars_and_lamb_is_that_of_the_papers():
    assert LARS(0.9, 0.5, 0.001).at(0, RATE).trust(2.0, 3.0, 1.0) == 0.001 * 2.0 / (3.0 + 0.5 * 2.0)
    assert LAMB().at(0, RATE).trust(2.0, 3.0, 1.0) == 2.0 / 3.0


def test_averages_go_a_share_of_the_way_and_all_of_it_to_the_bit():
    weights, gradients = problem()
    average, start = np.full(COUNT, 0.3, np.float32), np.float32(0.3)
    piece = Piece(weights, gradients[0], (np.zeros(COUNT, np.float32),), average)
    averaging(SGD().at(0, 0.1), 0.25).apply(piece)
    np.testing.assert_allclose(average, start + 0.25 * (weights - start), rtol=1e-5, atol=1e-6)
    averaging(SGD().at(1, 0.1), 1.0).apply(piece)
    assert average.tobytes() == weights.tobytes()


def test_a_recipe_names_its_optimizer_and_its_numbers():
    fields = OptimizerFields(
        momentum=0.8, betas=(0.7, 0.6), eps=1e-3, trust_coefficient=0.5, weight_decay=0.25
    )
    made = {kind: optimizer_of(replace(fields, kind=kind)) for kind in OPTIMIZERS}
    assert made == {
        "sgd": SGD(0.8, False, 0.25),
        "adamw": AdamW((0.7, 0.6), 1e-3, 0.25),
        "lars": LARS(0.8, 0.25, 0.5),
        "lamb": LAMB((0.7, 0.6), 1e-3, 0.25),
    }


def test_defaults_are_those_of_a_recipe():
    usual = {"sgd": SGD(), "adamw": AdamW(), "lars": LARS(), "lamb": LAMB()}
    assert usual == {kind: optimizer_of(OptimizerFields(kind=kind)) for kind in OPTIMIZERS}
    assert SGD() == SGD(momentum=0.9, nesterov=False, weight_decay=0.0)
    assert AdamW() == AdamW((0.9, 0.999), 1e-8, 0.0)
    assert LAMB() == LAMB((0.9, 0.999), 1e-6, 0.0)
    assert LARS() == LARS(0.9, 0.0, 0.001)
    assert math.isclose(LARS().at(0, 1.0).trust(1.0, 1.0, 1.0), 0.001)
