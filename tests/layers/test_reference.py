"""Every layer has a reference, and a layer from elsewhere can bring one."""

from dataclasses import dataclass

import pytest

from layers.conv2d import Conv2d
from layers.layer import Layer
from layers.reference import Reference, conv2d, dropout, fused_conv2d, reference_of, register
from layers.relu import ReLU
from tests.layers.cases import CASES


@pytest.mark.parametrize("kind", sorted({type(case.layer) for case in CASES}, key=str))
def test_the_reference_of_a_layer_has_the_name_of_its_module(kind: type[Layer]) -> None:
    layer = next(case.layer for case in CASES if type(case.layer) is kind)
    name = kind.__module__.removeprefix("layers.")
    for function in (reference_of(layer).forward, reference_of(layer).backward_data):
        assert function.__module__ == f"layers.reference.{name}"


def test_only_a_convolution_alone_is_a_product() -> None:
    assert conv2d.REFERENCE.is_product
    assert not fused_conv2d.REFERENCE.is_product
    assert not dropout.REFERENCE.is_product


class _Elsewhere(ReLU):
    pass


def test_a_class_has_the_reference_of_the_one_it_is_derived_from_unless_it_brings_its_own() -> None:
    assert reference_of(_Elsewhere()) is reference_of(ReLU())
    own = Reference(lambda _, problem: [*problem.inputs], lambda _, problem: [*problem.dys])
    register(_Elsewhere, own)
    assert reference_of(_Elsewhere()) is own
    assert reference_of(ReLU()) is not own
    assert reference_of(Conv2d(4, 3)) is conv2d.REFERENCE


@dataclass(frozen=True)
class _Unknown(Layer):
    def output_shape(self, *inputs):
        return inputs[0]

    def forward(self, at, run):
        pass

    def backward_data(self, at, run):
        pass


def test_a_layer_without_a_reference_is_told_how_to_get_one() -> None:
    with pytest.raises(
        ValueError, match=r"^_Unknown of .* has no float64 reference; give it one with layers"
    ):
        reference_of(_Unknown())
