"""The hash of tensors, by which runs that agree know it."""

import hashlib

from engine.training.held import Tensors, made


def sha256_of(tensors: Tensors) -> str:
    """Hash tensors sorted by name, in standard layout, little-endian float32."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(made(tensors[name]).astype("<f4", copy=False).data)
    return digest.hexdigest()
