"""Whether an ONNX file computes what the engine does: ONNX Runtime runs it on a small minibatch.

The measure is the largest difference of a logit, divided by the largest logit of the minibatch: sums in
another order differ by that scale and not by each logit's own, which may be a small difference of large
numbers. Where the file ends with softmax, the logits before it are compared, as probabilities near 0 and 1
would hide them, and the probabilities with those of these logits.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.config.errors import UserError
from engine.formats.onnx_file import BATCH, LOGITS, PROBABILITIES, OnnxOptions, load_onnx
from engine.formats.trained import Trained
from layers.layer import Array

MOST = 1e-4
"""By the measure above: float32 sums in another order stay below 2e-5 in all networks that come along."""
_MOST_PROBABILITY = 1e-5
"""Of a probability of the same logits, as exponentials differ by some units in the last place."""

SAMPLES = 2
_SEED = 0


@dataclass(frozen=True)
class Agreement:
    """How far two sets of logits are from each other."""

    difference: float
    """The largest."""
    scale: float
    """What it is divided by."""

    @property
    def relative(self) -> float:
        """Return the measure."""
        return self.difference / self.scale


def can_check() -> bool:
    """Say whether ONNX Runtime is installed."""
    return find_spec("onnxruntime") is not None


def check_onnx(content: bytes, trained: Trained, options: OnnxOptions) -> Agreement:
    """Run a file on random samples, and return how far it is from the engine's own logits.

    Raises
    ------
    UserError
        ONNX Runtime does not run it, or the measure is above `MOST`.
    """
    generator = np.random.default_rng(_SEED)
    shape = (SAMPLES, *trained.network.input_shape)
    given: NDArray[Any] = generator.standard_normal(shape, dtype=np.float32)
    x: Array = given
    if options.preprocess and trained.preprocessing is not None:
        given = generator.integers(0, 256, shape, np.uint8)
        scale, shift = (
            np.array(each, np.float32).reshape(-1, 1, 1) for each in vars(trained.preprocessing).values()
        )
        x = given * scale + shift
    results = run_onnx(_with_logits(content, trained) if options.softmax else content, given)
    found = agreement(results[LOGITS], trained.logits(x))
    if not found.relative <= MOST:
        raise UserError(
            f"onnx: ONNX Runtime's logits differ from the engine's by {found.relative:.1e} of the largest; "
            f"must be {MOST:g} at most: nothing is written"
        )
    if options.softmax:
        wrong = float(np.abs(results[PROBABILITIES] - _softmax(results[LOGITS])).max())
        if not wrong <= _MOST_PROBABILITY:
            raise UserError(f"onnx: ONNX Runtime's probabilities are off by {wrong:.1e}: nothing is written")
    return found


def agreement(theirs: Array, logits: Array) -> Agreement:
    """Return how far logits are from the engine's; infinitely where one is not finite."""
    is_finite = np.isfinite(theirs).all() and np.isfinite(logits).all()
    difference = float(np.abs(theirs - logits).max()) if is_finite else np.inf
    return Agreement(difference, float(np.abs(logits).max()) or 1.0)


def run_onnx(content: bytes, x: NDArray[Any], threads: int = 0) -> dict[str, Array]:
    """Return the outputs by name that ONNX Runtime computes of a model's one input.

    Parameters
    ----------
    threads
        0: as many as it finds good.

    Raises
    ------
    UserError
        It does not read or run the model.
    """
    import onnxruntime  # noqa: PLC0415 -- an extra: only its users need it

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4  # what is wrong comes as an exception
    settings.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
        results = session.run(None, {session.get_inputs()[0].name: x})
    except Exception as error:  # its own classes have no common base
        raise UserError(f"onnx: ONNX Runtime {onnxruntime.__version__} does not run it: {error}") from error
    return {output.name: result for output, result in zip(session.get_outputs(), results, strict=True)}


def _with_logits(content: bytes, trained: Trained) -> bytes:
    """Return the content of a file that ends with softmax with the logits as another output."""
    onnx = load_onnx()
    model = onnx.load_model_from_string(content)
    shape = [BATCH, *trained.network.output_shape]
    model.graph.output.append(onnx.helper.make_tensor_value_info(LOGITS, onnx.TensorProto.FLOAT, shape))
    with_logits: bytes = model.SerializeToString()
    return with_logits


def _softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    total: Array = powers / powers.sum(axis=1, keepdims=True)
    return total
