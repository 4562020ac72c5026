"""A side of a comparison in a process of its own, which works only when told to.

Both sides cannot share a process: memory allocators are set up by the environment, peak memory is counted by
process, and each side has its own threads. The parent writes one JSON line and reads one back, so the sides
take turns. Between commands a worker waits for its standard input: our threads sleep on locks, and PyTorch's
OpenMP threads fall asleep a few milliseconds after a step; nothing is set to change that.
"""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.ours import Ours
from engine.host.peak_memory import peak_resident_bytes

TUNED = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "268435456",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "THP_MEM_ALLOC_ENABLE": "1",
    "OMP_PROC_BIND": "true",
}
"""Keeps PyTorch from returning memory to the system and faulting it in again in each step; huge pages; pinned
threads."""


class Worker:
    """The parent's end."""

    def __init__(self, environment: dict[str, str], **side: Any):
        clean = {name: value for name, value in os.environ.items() if name not in TUNED}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=clean | environment,
            cwd=Path(__file__).parent.parent,
        )  # fmt: skip
        self.ask("start", **side)

    def ask(self, do: str, **arguments: Any) -> Any:
        """Send a command and return its answer."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise RuntimeError(f"a worker ended at {do!r} with exit code {self._process.wait()}")
        return json.loads(answer)

    def close(self) -> None:
        """End the process."""
        self._process.communicate()  # closes its standard input: the loop of `main` ends


def _make(side: str, weights: str | None = None, layout: str = "", leaves: int = 1, **arguments: Any) -> Any:
    if side == "ours":
        ours = Ours(leaves=leaves, **arguments)
        if weights is not None:
            from safetensors.numpy import save_file  # noqa: PLC0415 -- scoring needs no file

            save_file(ours.rank.parameters.gather_weights(), weights)
        return ours
    if side == "torch_conv":
        from bench.torch_conv import TorchConv  # noqa: PLC0415 -- an extra; our side must not pay for it

        return TorchConv(**arguments)
    from bench.torch_side import TorchSide  # noqa: PLC0415 -- as above

    return TorchSide(layout=layout, weights=Path(weights) if weights else None, **arguments)


def main() -> int:
    """Serve commands until the standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not look like an answer
    side: Any = None
    for line in sys.stdin:
        command = json.loads(line)
        do = command.pop("do")
        if do == "start":
            side, answer = _make(**command), None
        elif do == "peak_bytes":
            answer = peak_resident_bytes()
        elif do in ("layers", "weights_sha256"):
            answer = getattr(side, do)()
        elif do == "seconds":
            answer = side.seconds(**command)
        else:
            answer = asdict(getattr(side, do)(**command))
        print(json.dumps(answer), file=answers, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
