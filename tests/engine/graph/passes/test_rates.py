"""Learning rates of layers: which factor each gets, and which patterns are refused."""

import pytest

from engine.config.errors import UserError
from engine.graph.passes.rates import check_rates, set_rates
from tests.engine.graph.passes.test_freeze import factors
from tests.engine.graphs import chain


def test_each_layer_gets_the_factor_of_the_first_pattern_that_fits():
    rated = factors(set_rates(chain(), [("conv2", 0.5), ("conv*", 2.0)]))
    assert (rated["conv1"], rated["conv2"], rated["fc3"]) == ({2.0}, {0.5}, {1.0})
    assert set_rates(chain(), []) == chain()


def test_a_pattern_that_never_counts_is_refused():
    check_rates(chain(), {"conv2": 1, "conv*": 2, "*": 3})
    with pytest.raises(UserError, match=r'^schedule\.rates: got "conv2" behind patterns that fit the same'):
        check_rates(chain(), {"conv*": 2, "conv2": 1})
    with pytest.raises(UserError, match=r'^schedule\.rates: got "fc9", which fits no layer with weights'):
        check_rates(chain(), {"fc9": 2})
