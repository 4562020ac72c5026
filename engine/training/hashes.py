"""The hash of tensors, by which runs that agree know it."""

import hashlib
from collections.abc import Mapping

from layers.layer import Array


def sha256_of(tensors: Mapping[str, Array]) -> str:
    """Hash tensors sorted by name, in standard layout, little-endian float32."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(tensors[name].astype("<f4", copy=False).data)
    return digest.hexdigest()
