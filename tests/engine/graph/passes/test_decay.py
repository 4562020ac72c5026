"""Parameters that are exempt from weight decay: which, and which patterns are refused."""

import pytest

from engine.config.errors import UserError
from engine.graph.passes.decay import DecayExempt, check_exempt, exempt_from_decay
from engine.graph.passes.rates import set_rates
from tests.engine.graphs import chain


def decays(graph):
    return {
        f"{node.name}.{name}": parameter.decay_factor
        for node in graph
        for name, parameter in node.layer.parameters(*graph.input_shapes(node)).items()
    }


def test_parameters_that_a_pattern_fits_do_not_decay():
    found = decays(exempt_from_decay(chain(), ["*.bias", "fc3.*"]))
    assert {name for name, factor in found.items() if factor == 0} == {
        "conv1.bias", "conv2.bias", "fc3.bias", "fc3.weight",
    }  # fmt: skip
    assert set(found.values()) == {0.0, 1.0}


def test_other_layers_stay_as_they_are():
    exempt = exempt_from_decay(chain(), ["conv2.bias"])
    assert [node.name for node in exempt if isinstance(node.layer, DecayExempt)] == ["conv2"]
    assert exempt_from_decay(chain(), []) == chain()


def test_rates_of_their_own_are_kept():
    exempt = exempt_from_decay(set_rates(chain(), [("conv2", 3.0)]), ["*.bias"])
    (node,) = (node for node in exempt if node.name == "conv2")
    found = node.layer.parameters(*exempt.input_shapes(node))
    assert [(each.rate_factor, each.decay_factor) for each in found.values()] == [(3.0, 1.0), (3.0, 0.0)]


def test_a_pattern_that_fits_nothing_is_refused_with_what_there_is():
    check_exempt(chain(), ["*.bias", "conv?.weight"])
    wanted = r'^optimizer\.decay_exempt: got "conv1", which fits no weights; must be one of conv1\.weight,'
    with pytest.raises(UserError, match=wanted):
        check_exempt(chain(), ["*.bias", "conv1"])
