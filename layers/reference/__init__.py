"""Float64 references of every layer: obvious, slow, sharing nothing with the kernels.

The ``REFERENCE`` of ``layers/my_layer.py`` lies in ``layers/reference/my_layer.py``; `reference_of` finds it.
A layer from elsewhere, such as a user's file, brings its own with `register`.
"""

from layers.reference.problem import Problem
from layers.reference.reference import Reference, reference_of, register

__all__ = ["Problem", "Reference", "reference_of", "register"]
