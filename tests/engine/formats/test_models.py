"""All networks that come along: our logits, those of ONNX Runtime and those of PyTorch."""

import io

import numpy as np
import pytest

from engine.formats.names import own_names, read_names, tensor_shapes
from engine.formats.onnx_check import agreement, check_onnx
from engine.formats.onnx_file import OnnxOptions, onnx_bytes
from engine.formats.torch_writer import torch_bytes
from engine.models import MODELS, build_model
from tests.engine.formats.networks import drawn

_TINY = {"image": [3, 32, 32], "classes": 10}
SMALL = {
    "vgg_a": _TINY,
    "vgg_d": _TINY,
    "vgg_e": _TINY | {"norm": True},
    "alexnet": {"image": [3, 64, 64], "classes": 10},
    "googlenet": _TINY | {"image": [3, 64, 64]},
    "resnet18": _TINY,
    "resnet34": _TINY,
    "resnet50": _TINY,
    "resnet101": _TINY,
    "efficientnet_lite0": _TINY,
    "overfeat_fast": {"image": [3, 87, 87], "classes": 10},
    "cd_dnn": {"classes": 100},
}
"""Arguments with which the large networks take a second; `bench.logits` has them at full size."""
TOLERANCE = 2e-5
"""Of the largest logit: float32 sums of up to ten thousand terms, each in an order of its own."""


@pytest.fixture(scope="module", params=MODELS)
def trained(request):
    return drawn(build_model(request.param, SMALL.get(request.param)))


def test_onnx_runtime_has_the_same_logits(trained):
    pytest.importorskip("onnxruntime", reason="extra: export")
    pytest.importorskip("onnx", reason="extra: export")
    found = check_onnx(onnx_bytes(trained, OnnxOptions()), trained, OnnxOptions())
    assert found.scale > 0.01
    assert found.relative < TOLERANCE


def test_pytorch_has_the_same_logits(trained):
    torch = pytest.importorskip("torch", reason="extra: bench")
    from bench.torch_side import network  # noqa: PLC0415 -- imports torch

    module = network(trained.network)
    content = torch_bytes(
        {name: trained.tensors[name] for name in own_names(tensor_shapes(trained.network)).theirs}
    )
    module.load_state_dict(torch.load(io.BytesIO(content), weights_only=True), strict=True)
    _compare(torch, module, trained)


@pytest.mark.parametrize("trained", ["vgg_a"], indirect=True)
def test_a_module_like_torchvisions_vgg11_loads_vgg_a(trained):
    torch = pytest.importorskip("torch", reason="extra: bench")
    names = read_names("torchvision:vgg11", tensor_shapes(trained.network)).theirs
    content = torch_bytes({theirs: trained.tensors[ours] for ours, theirs in names.items()})
    module = _vgg11(torch.nn, features=512, classes=10)
    module.load_state_dict(torch.load(io.BytesIO(content), weights_only=True), strict=True)
    _compare(torch, module, trained)


def _compare(torch, module, trained) -> None:
    x = np.random.default_rng(4).standard_normal((2, *trained.network.input_shape), dtype=np.float32)
    with torch.inference_mode():
        theirs = module.eval()(torch.from_numpy(x)).numpy()
    assert 0 < agreement(theirs, trained.logits(x)).relative < TOLERANCE


def _vgg11(nn, *, features: int, classes: int):
    """Return a module with the parts of torchvision.models.vgg11, for images of 32x32 pixels."""
    layers, channels = [], 3
    for width in (64, None, 128, None, 256, 256, None, 512, 512, None, 512, 512, None):
        if width is None:
            layers.append(nn.MaxPool2d(2, 2))
        else:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
            channels = width
    classifier = nn.Sequential(
        nn.Linear(features, 4096), nn.ReLU(inplace=True), nn.Dropout(),
        nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Dropout(),
        nn.Linear(4096, classes),
    )  # fmt: skip

    class VGG(nn.Module):
        def __init__(self):
            super().__init__()
            self.features, self.classifier = nn.Sequential(*layers), classifier

        def forward(self, x):
            return self.classifier(self.features(x).flatten(1))

    return VGG()
