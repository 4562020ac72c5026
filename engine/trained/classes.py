"""The classes of a data set beside those of a network: matched by name."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.config.errors import UserError
from engine.config.wording import counted, did_you_mean
from engine.data.dataset import DataError, Dataset, mistake_in
from engine.data.preprocessing import Preprocessing

_MOST_NAMED = 5  # classes in an error


@dataclass(frozen=True, eq=False)
class Relabelled(Dataset):
    """A data set whose labels are the outputs of a network."""

    inner: Dataset
    outputs: NDArray[np.int64]
    """Of each label of the inner data set."""

    def __len__(self) -> int:
        return len(self.inner)

    def read(self, index: int, x: NDArray[np.float32]) -> int:
        """Read a sample of the inner data set, and return the output that stands for its class."""
        label = self.inner.read(index, x)
        wrong = mistake_in(self.inner, label, x)
        if wrong is not None:
            raise DataError.at(self.name, f"sample {index} {wrong}")
        return int(self.outputs[int(label)])

    @property
    def preprocessing(self) -> Preprocessing:
        """That of the inner data set."""
        return self.inner.preprocessing

    @property
    def decoders(self) -> tuple[str, ...]:
        """Those of the inner data set."""
        return self.inner.decoders

    def fingerprint(self) -> str:
        """Return that of the inner data set."""
        return self.inner.fingerprint()


def for_network(
    dataset: Dataset, data_names: tuple[str, ...], names: tuple[str, ...], outputs: int, *, where: str
) -> Dataset:
    """Return a data set whose labels are a network's outputs.

    Parameters
    ----------
    data_names
        What the labels of the data stand for; empty where nobody has named them.
    names
        What the outputs stand for; empty in checkpoints of earlier versions. Where either is empty, label i
        is output i.
    outputs
        Of the network.
    where
        Names the data in errors.

    Raises
    ------
    UserError
        The data has a class that the network does not know: how often it is wrong about that one says
        nothing. Or two classes have one name.
    """
    if not data_names or not names or data_names == names[: len(data_names)]:
        if dataset.classes > outputs:
            raise UserError(
                f"{where} has {dataset.classes} classes; the network has {counted(outputs, 'output')}"
            )
        return dataset
    if len(set(names)) < len(names) or len(set(data_names)) < len(data_names):
        raise UserError(f"{where}: two classes have one name, so that they cannot be matched by name")
    unknown = [name for name in data_names if name not in names]
    if unknown:
        shown = ", ".join(unknown[:_MOST_NAMED]) + (", ..." if len(unknown) > _MOST_NAMED else "")
        known = ", ".join(names[:_MOST_NAMED]) + (", ..." if len(names) > _MOST_NAMED else "")
        raise UserError(
            f"{where} has {len(unknown)} class{'es' * (len(unknown) > 1)} that the network does not "
            f"know: {shown}{did_you_mean(unknown[0], names)}; it knows {known}"
        )
    matched = np.array([names.index(name) for name in data_names], np.int64)
    return Relabelled(dataset.name, dataset.sample_shape, outputs, dataset, matched, class_names=names)
