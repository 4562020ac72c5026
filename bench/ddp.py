"""One process of PyTorch's DistributedDataParallel over Gloo, as its users would run it: the peer in scaling.

Started by mpirun, which only says who is which rank; rank 0 prints the seconds of each step as JSON. One
process alone trains without DistributedDataParallel.
"""

import argparse
import json
import os
from typing import NoReturn

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from bench.torch_side import FORMATS, TorchSide
from comm.launcher import launched_rank, launched_ranks

PORT = 29400


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.ddp", description="See bench.scaling.")
    parser.add_argument("model")
    parser.add_argument("--batch", type=int, required=True, help="global minibatch")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--layout", choices=FORMATS, required=True)
    parser.add_argument("--master", default="127.0.0.1", help="address of rank 0")
    return parser


def main() -> NoReturn:
    """Train some steps, update included."""
    options = _parser().parse_args()
    rank, ranks = launched_rank(), launched_ranks()
    torch.manual_seed(1)
    side = TorchSide(
        options.model, samples=options.batch // ranks, threads=options.threads, layout=options.layout,
        weights=None,
    )  # fmt: skip
    if ranks > 1:
        address = f"tcp://{options.master}:{PORT}"
        distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=ranks)
        # As a view of the buckets gradients are not copied: the faster setting.
        side.net = DistributedDataParallel(side.net, gradient_as_bucket_view=True)
    done = side.train(options.steps)
    if rank == 0:
        print(json.dumps({"seconds": done.seconds, "losses": done.losses}), flush=True)
    if ranks > 1:
        distributed.barrier()
    # Joining Gloo's threads, by destroy_process_group or at exit, hung in one of ten runs (PyTorch 2.13).
    os._exit(0)


if __name__ == "__main__":
    main()
