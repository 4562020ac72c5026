"""A layer beside the module of PyTorch that computes the same."""

from typing import Any

import numpy as np
import pytest

from layers.layer import Layer
from layers.reference import Problem
from tests.layers import harness


def agree(layer: Layer, theirs: Any, given: Problem) -> harness.Result:
    """Compare values and gradients of both in training, and return the layer's.

    Parameters
    ----------
    theirs
        A module with parameters of the same names, which are set to the problem's.
    """
    torch = pytest.importorskip("torch")
    with torch.no_grad():
        for name, values in given.parameters.items():
            getattr(theirs, name)[...] = torch.from_numpy(values)
    x = torch.from_numpy(given.inputs[0].astype(np.float32)).requires_grad_()
    y = theirs(x)
    y.backward(torch.from_numpy(given.dys[0].astype(np.float32)))
    done = harness.run(layer, given)
    # Values around 1, sums of some hundred of them: float32, added in another order.
    np.testing.assert_allclose(done.y[0].plain(), y.detach().numpy(), rtol=0, atol=4e-6)
    np.testing.assert_allclose(done.dx[0].plain(), x.grad.numpy(), rtol=0, atol=1e-5)
    for name, gradient in done.gradients.items():
        np.testing.assert_allclose(gradient, getattr(theirs, name).grad.numpy(), rtol=0, atol=1e-4)
    return done
