"""`lockstep.load`: a trained network from a checkpoint."""

from pathlib import Path

from engine.trained.loading import load_model
from engine.trained.model import BATCH, Model


def load(
    checkpoint: str | Path, *, best: bool = False, model: str = "", batch: int = BATCH, threads: int = 0
) -> Model:
    """Return the trained network of a checkpoint, or of the newest one of a run's folder.

    Parameters
    ----------
    checkpoint
        `run.best`, `run.checkpoint`, or a path; its optimizer.safetensors need not be there.
    best
        Of a run's folder the best checkpoint, where its recipe keeps that.
    model
        Where a network file of your own, FILE.py:function, lies now, if it has moved.
    batch
        Samples that go through the network at once; 0: as many as fill the kernels, at least 32.
    threads
        Kernel threads; 0: as many as this process has cores.

    Raises
    ------
    UserError
        There is no checkpoint, it cannot be read, or it holds another network.
    """
    return load_model(checkpoint, best=best, model=model, batch=batch, threads=threads)
