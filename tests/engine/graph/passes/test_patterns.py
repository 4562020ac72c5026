"""Patterns that name nodes: which they fit, and what one that fits nothing says."""

import pytest

from engine.config.errors import UserError
from engine.graph.passes.patterns import check_patterns, first_matching
from tests.engine.graphs import chain
from tests.test_new_layer import network as with_state


@pytest.mark.parametrize(
    ("patterns", "fitting"),
    [
        ((), {}),
        (("conv*",), {"conv1": "conv*", "conv2": "conv*"}),
        (("conv2", "*"), {"conv1": "*", "conv2": "conv2", "fc3": "*"}),
        (("*[13]",), {"conv1": "*[13]", "fc3": "*[13]"}),
        (("CONV1",), {}),
        (("relu*",), {}),
    ],
)
def test_the_first_pattern_that_fits_a_layer_with_weights_counts(patterns, fitting):
    assert first_matching(chain(), patterns) == fitting


def test_layers_with_state_only_can_be_named_too():
    assert set(first_matching(with_state(), ["scale*"])) == {"scale1", "scale2"}


def test_a_pattern_that_fits_nothing_is_refused_with_the_names():
    check_patterns(chain(), ["conv*", "fc3", "conv1"], "freeze")
    with pytest.raises(UserError) as refused:
        check_patterns(chain(), ["conv*", "relu1"], "freeze")
    assert (
        str(refused.value)
        == 'freeze: got "relu1", which fits no layer with weights; must be one of conv1, conv2, fc3'
    )
