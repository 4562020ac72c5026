"""Lockstep: synchronous SGD for CPU clusters, with the same bits on any number of ranks.

>>> import lockstep
>>> run = lockstep.train("digits", steps=20)
>>> run.results["weights_sha256"]
>>> model = lockstep.load(run.checkpoint)
>>> model(x)  # float32 [N, 1, 8, 8] -> logits [N, 10]

Names are imported when they are first used: `import lockstep` alone is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.api.model import load as load
    from engine.api.training import Run as Run
    from engine.api.training import train as train
    from engine.config.errors import UserError as UserError
    from engine.config.recipe import OptimizerFields as OptimizerFields
    from engine.config.recipe import Recipe as Recipe
    from engine.config.recipe import ScheduleFields as ScheduleFields
    from engine.config.recipe import read_recipe as read_recipe
    from engine.data.dataset import Dataset as Dataset
    from engine.data.dataset import DataSource as DataSource
    from engine.data.readers.arrays import ArrayDataset as ArrayDataset
    from engine.graph import Graph as Graph
    from engine.graph import GraphBuilder as GraphBuilder
    from engine.models import MODELS as MODELS
    from engine.run.callbacks import Callback as Callback
    from engine.run.callbacks import RunView as RunView
    from engine.trained.comparison import Comparison as Comparison
    from engine.trained.comparison import compare as compare
    from engine.trained.evaluation import Evaluation as Evaluation
    from engine.trained.model import Model as Model
    from engine.trained.prediction import Prediction as Prediction
    from layers.activations import GELU as GELU
    from layers.activations import HardSigmoid as HardSigmoid
    from layers.activations import HardSwish as HardSwish
    from layers.activations import ReLU6 as ReLU6
    from layers.activations import SiLU as SiLU
    from layers.adaptive_avg_pool import AdaptiveAvgPool as AdaptiveAvgPool
    from layers.add import Add as Add
    from layers.avg_pool import AvgPool as AvgPool
    from layers.batch_norm import BatchNorm as BatchNorm
    from layers.concat import Concat as Concat
    from layers.conv2d import Conv2d as Conv2d
    from layers.depthwise_conv2d import DepthwiseConv2d as DepthwiseConv2d
    from layers.dropout import Dropout as Dropout
    from layers.flatten import Flatten as Flatten
    from layers.given import Given as Given
    from layers.global_avg_pool import GlobalAvgPool as GlobalAvgPool
    from layers.group_norm import GroupNorm as GroupNorm
    from layers.grouped_conv2d import GroupedConv2d as GroupedConv2d
    from layers.layer import Buffers as Buffers
    from layers.layer import Context as Context
    from layers.layer import Layer as Layer
    from layers.layer import Parameter as Parameter
    from layers.layer import Scratch as Scratch
    from layers.layer import State as State
    from layers.layer_norm import LayerNorm as LayerNorm
    from layers.linear import Linear as Linear
    from layers.max_pool import MaxPool as MaxPool
    from layers.multiply import Multiply as Multiply
    from layers.onnx_form import OnnxNode as OnnxNode
    from layers.relu import ReLU as ReLU
    from layers.scale import Scale as Scale
    from layers.sigmoid import Sigmoid as Sigmoid
    from layers.work import Extents as Extents

_PLACES = {
    "engine.api.model": ("load",),
    "engine.api.training": ("Run", "train"),
    "engine.config.errors": ("UserError",),
    "engine.config.recipe": ("OptimizerFields", "Recipe", "ScheduleFields", "read_recipe"),
    "engine.data.dataset": ("DataSource", "Dataset"),
    "engine.data.readers.arrays": ("ArrayDataset",),
    "engine.graph": ("Graph", "GraphBuilder"),
    "engine.models": ("MODELS",),
    "engine.run.callbacks": ("Callback", "RunView"),
    "engine.trained.comparison": ("Comparison", "compare"),
    "engine.trained.evaluation": ("Evaluation",),
    "engine.trained.model": ("Model",),
    "engine.trained.prediction": ("Prediction",),
    "layers.activations": ("GELU", "HardSigmoid", "HardSwish", "ReLU6", "SiLU"),
    "layers.adaptive_avg_pool": ("AdaptiveAvgPool",),
    "layers.add": ("Add",),
    "layers.avg_pool": ("AvgPool",),
    "layers.batch_norm": ("BatchNorm",),
    "layers.concat": ("Concat",),
    "layers.conv2d": ("Conv2d",),
    "layers.depthwise_conv2d": ("DepthwiseConv2d",),
    "layers.dropout": ("Dropout",),
    "layers.flatten": ("Flatten",),
    "layers.given": ("Given",),
    "layers.global_avg_pool": ("GlobalAvgPool",),
    "layers.group_norm": ("GroupNorm",),
    "layers.grouped_conv2d": ("GroupedConv2d",),
    "layers.layer": ("Buffers", "Context", "Layer", "Parameter", "Scratch", "State"),
    "layers.layer_norm": ("LayerNorm",),
    "layers.linear": ("Linear",),
    "layers.max_pool": ("MaxPool",),
    "layers.multiply": ("Multiply",),
    "layers.onnx_form": ("OnnxNode",),
    "layers.relu": ("ReLU",),
    "layers.scale": ("Scale",),
    "layers.sigmoid": ("Sigmoid",),
    "layers.work": ("Extents",),
}
_PLACE_OF = {name: place for place, names in _PLACES.items() for name in names}

__all__ = [*_PLACE_OF]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _PLACE_OF:
        raise AttributeError(f"module 'lockstep' has no attribute {name!r}")
    try:
        if name != "UserError":
            import_module("engine.config.numba_settings").check_numba_settings()
        module = import_module(_PLACE_OF[name])
    except ModuleNotFoundError as error:
        if error.name not in (None, "engine") and not str(error.name).startswith("engine."):
            raise
        found = getattr(import_module("engine"), "__file__", "another folder")
        raise ImportError(f"{found} is found where lockstep's package engine should be; rename it") from error
    value = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
