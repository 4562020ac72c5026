"""Networks by name: each module has one function that returns a Graph."""

from collections.abc import Callable

from engine.graph import Graph
from engine.models.cd_dnn import cd_dnn
from engine.models.cifar10 import cifar10
from engine.models.digits import digits
from engine.models.overfeat_fast import overfeat_fast
from engine.models.vgg_a import vgg_a

MODELS: dict[str, Callable[[], Graph]] = {
    "digits": digits,
    "cifar10": cifar10,
    "vgg_a": vgg_a,
    "overfeat_fast": overfeat_fast,
    "cd_dnn": cd_dnn,
}
