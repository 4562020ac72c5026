"""CD-DNN, the context-dependent acoustic model of Seide et al. 2011 as Das et al. 2016 train it."""

from engine.graph import Graph, GraphBuilder
from layers.linear import Linear
from layers.sigmoid import Sigmoid

FRAMES, COEFFICIENTS, LAYERS, HIDDEN, SENONES = 11, 39, 7, 2048, 9304


def cd_dnn(
    classes: int = SENONES,
    features: int = FRAMES * COEFFICIENTS,
    layers: int = LAYERS,
    hidden: int = HIDDEN,
) -> Graph:
    """Return seven hidden layers of 2,048 sigmoids on 11 frames of speech: 45,122,648 parameters."""
    net = GraphBuilder((features,))
    for layer in range(1, layers + 1):
        net.add(f"fc{layer}", Linear(hidden, gain=4.0))  # sigmoids shrink the signal to a quarter at most
        net.add(f"sigmoid_fc{layer}", Sigmoid())
    net.add(f"fc{layers + 1}", Linear(classes, gain=1.0))
    return net.graph()
