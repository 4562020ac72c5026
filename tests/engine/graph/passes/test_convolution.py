"""Settings of convolutions reach all of them, and nothing else."""

from engine.graph.passes.convolution import set_convolutions
from layers.conv2d import Conv2d
from tests.engine.graphs import mixed, perceptron


def test_every_convolution_gets_the_settings_and_keeps_its_shape():
    before, after = mixed(), set_convolutions(mixed(), "direct", 4)
    assert after.shapes == before.shapes
    for old, new in zip(before, after, strict=True):
        if isinstance(old.layer, Conv2d):
            assert (new.layer.algorithm, new.layer.feature_leaves) == ("direct", 4)
            assert (new.layer.out_channels, new.layer.padding) == (old.layer.out_channels, old.layer.padding)
        else:
            assert new == old


def test_a_network_without_convolutions_stays_as_it_is():
    assert set_convolutions(perceptron(), "direct", 2) == perceptron()


def test_the_defaults_change_nothing():
    assert set_convolutions(mixed(), "auto", 1) == mixed()
