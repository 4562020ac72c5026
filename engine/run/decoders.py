"""Compare what the ranks' image decoders make of images, rather than their versions."""

import socket

from comm.communicator import Communicator
from engine.config.errors import UserError
from engine.data.dataset import Dataset


def check_decoders(world: Communicator, *datasets: Dataset, also: tuple[str, ...] = ()) -> None:
    """Refuse ranks that would train on other pixels (collective).

    Versions may differ: each rank decodes the same small images. Data that needs no decoder asks nothing.

    Parameters
    ----------
    also
        What is asked beside the data sets' decoders.

    Raises
    ------
    UserError
        On all ranks: names two hosts that differ, what in, and their versions.
    """
    names = dict.fromkeys(name for data in datasets for name in (*data.decoders, *also))
    if not names:
        return
    from engine.data.readers.image_file import decoder_version  # noqa: PLC0415 -- only its users need Pillow
    from engine.data.readers.probe import probe  # noqa: PLC0415

    first, *others = world.gather_objects((socket.gethostname(), decoder_version(), probe(names)))
    for rank, (host, version, made) in enumerate(others, start=1):
        differing = [name for name in names if made[name] != first[2][name]]
        if differing:
            raise UserError(
                f"images: rank {rank} on {host} ({version}) makes other pixels of a test image than rank 0 "
                f"on {first[0]} ({first[1]}), by {' and '.join(differing)}; must be the same on all"
            )
