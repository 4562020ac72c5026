"""Which object computes a pass of a convolution, and that its passes share no working memory."""

from dataclasses import replace

import pytest

from layers.conv2d import Conv2d
from layers.convolution.direct import Direct
from layers.convolution.first_layer import FirstLayer
from layers.convolution.winograd import Winograd
from layers.work import BACKWARD_DATA, BACKWARD_WEIGHTS, FORWARD, PASSES

WIDE, WIDE_IMAGE = Conv2d(128, 3, padding=1), (64, 56, 56)
FIRST, FIRST_IMAGE = Conv2d(64, 3, padding=1), (3, 112, 112)


@pytest.mark.parametrize("direction", PASSES)
def test_every_pass_finds_its_algorithm(direction):
    assert isinstance(WIDE.algorithm_of(direction, 2, WIDE_IMAGE), Winograd)
    assert isinstance(replace(WIDE, algorithm="direct").algorithm_of(direction, 2, WIDE_IMAGE), Direct)
    assert isinstance(replace(WIDE, stride=2).algorithm_of(direction, 2, WIDE_IMAGE), Direct)
    assert isinstance(FIRST.algorithm_of(direction, 2, FIRST_IMAGE), FirstLayer)


def test_passes_of_one_layer_may_use_several_algorithms():
    padded_far = Conv2d(128, 3, padding=3)  # dx has windows that begin beyond dy
    assert padded_far.algorithm_of(FORWARD, 2, WIDE_IMAGE).is_winograd
    assert not padded_far.algorithm_of(BACKWARD_DATA, 2, WIDE_IMAGE).is_winograd


def test_only_a_first_layer_reads_a_pooled_gradient():
    assert FIRST.algorithm_of(BACKWARD_WEIGHTS, 2, FIRST_IMAGE).reads_pooled_dy
    assert not WIDE.algorithm_of(BACKWARD_WEIGHTS, 2, WIDE_IMAGE).reads_pooled_dy


@pytest.mark.parametrize(("layer", "image"), [(WIDE, WIDE_IMAGE), (FIRST, FIRST_IMAGE)])
@pytest.mark.parametrize("pools", [False, True])
def test_passes_share_no_working_memory_but_zeros(layer, image, pools):
    names = [
        name
        for direction in PASSES
        for name in layer.algorithm_of(direction, 2, image).scratch(direction, 4, 2, 1, pools=pools)
        if name not in {"zeros", "dense_x"}  # nobody writes them; each pass writes it first
    ]
    assert len(names) == len(set(names))
    assert set(names) <= set(layer.scratch_before(4, 2, 1, image, pools=pools))
