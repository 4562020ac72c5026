"""Networks by name: each module has one function that returns a Graph.

The functions take the number of classes and the shape of the input, so that a network follows its data. A
function of the user's own, FILE.py:function, is called in the same way.
"""

from collections.abc import Callable, Mapping
from typing import Any

from engine.config.errors import UserError
from engine.config.paths import function_in_file
from engine.config.user_code import call, load_function, parameters_of
from engine.config.wording import did_you_mean, one_of
from engine.graph import Graph
from engine.graph.check import check_network
from engine.models.airbench94 import airbench94
from engine.models.alexnet import alexnet
from engine.models.cd_dnn import cd_dnn
from engine.models.cifar10 import cifar10
from engine.models.digits import digits
from engine.models.efficientnet_lite0 import efficientnet_lite0
from engine.models.fashion_mnist import fashion_mnist
from engine.models.googlenet import googlenet
from engine.models.mnist import mnist
from engine.models.overfeat_fast import overfeat_fast
from engine.models.resnet import resnet18, resnet34, resnet50, resnet101
from engine.models.resnet9 import resnet9
from engine.models.speech_digits import speech_digits
from engine.models.vgg import vgg_a, vgg_d, vgg_e

_FUNCTIONS: tuple[Callable[..., Graph], ...] = (
    digits,
    mnist,
    fashion_mnist,
    cifar10,
    resnet9,
    airbench94,
    alexnet,
    vgg_a,
    vgg_d,
    vgg_e,
    overfeat_fast,
    googlenet,
    resnet18,
    resnet34,
    resnet50,
    resnet101,
    efficientnet_lite0,
    speech_digits,
    cd_dnn,
)
MODELS: dict[str, Callable[..., Graph]] = {function.__name__: function for function in _FUNCTIONS}


def build_model(model: str, arguments: Mapping[str, Any] | None = None) -> Graph:
    """Return the network of a name in `MODELS`, or of "FILE.py:function".

    Parameters
    ----------
    arguments
        Passed on by name: ``classes``, ``image``, or what else the function takes.

    Raises
    ------
    UserError
        No such model or file, an argument that does not fit, or an error in the user's function.
    """
    for name, value in (arguments or {}).items():
        _check_argument(model, name, value)
    network = call(_function(model), arguments or {}, "model", given={})
    if not isinstance(network, Graph):
        got = type(network).__name__
        raise UserError(f"model: {model} returned {got}; must return a Graph, as GraphBuilder.graph() does")
    check_network(network, f"model: {model}")
    if len(network.output_shape) != 1:
        raise UserError(
            f"model: {model} ends with values of shape {network.output_shape}; must end with a vector of one "
            "value for each class"
        )
    return network


def follows_classes(model: str, arguments: Mapping[str, Any]) -> bool:
    """Say whether the number of classes is left to the data."""
    return "classes" in parameters_of(_function(model), "model") and "classes" not in arguments


def _check_argument(model: str, name: str, value: Any) -> None:
    if name == "classes" and (type(value) is not int or value < 1):
        raise UserError(f"model: classes: got {value!r}; must be a whole number of at least 1")
    if name == "image" and not _is_shape(value):
        raise UserError(f"model: image: got {value!r}; must be channels, rows and columns: [3, 224, 224]")
    parameter = parameters_of(MODELS[model], "model").get(name) if model in MODELS else None
    is_switch = parameter is not None and parameter.annotation is bool
    if is_switch and not isinstance(value, bool):  # such as the text "off", which would be taken for true
        raise UserError(f"model: {name}: got {value!r}; must be true or false")


def _is_shape(value: Any) -> bool:
    return (
        isinstance(value, (list, tuple)) and len(value) == 3 and all(type(n) is int and n > 0 for n in value)
    )


def _function(model: str) -> Callable[..., Any]:
    if function_in_file(model):
        return load_function(model, "model")
    if model not in MODELS:
        raise UserError(
            f'model: got "{model}"{did_you_mean(model, MODELS)}; {one_of(MODELS)}, or FILE.py:function'
        )
    return MODELS[model]
