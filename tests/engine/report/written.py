"""Runs as the engine writes them, without training: small ones, long ones, odd ones."""

import json
from pathlib import Path
from typing import Any

import numpy as np

RESULTS: dict[str, Any] = {
    "model": "digits", "data": "digits", "ranks": 2, "threads": 1, "batch": 64, "steps": 40, "epochs": 4.0,
    "parameters": 62250, "samples_per_second": 25000.0, "final_loss": 0.5, "test_loss": 0.25,
    "test_accuracy": 0.9375, "interrupted": False, "weights_sha256": "ab" * 32, "state_sha256": None,
    "step_seconds_median": 0.0025, "seconds_total": 83.0, "ended": "2026-11-28T00:25:48+00:00",
    "training_samples": 640, "test_samples": 360, "parameter_bytes_by_rank": [674000, 674000],
    "peak_resident_bytes_by_rank": [206000000, 204000000], "class_names": ["0", "1"],
    "where_the_time_went": {
        "steps": 37, "step_seconds": 0.004, "forward_seconds": 0.0005, "backward_weights_seconds": 0.001,
        "backward_data_seconds": 0.0005, "update_seconds": 0.0, "exposed_communication_seconds": 0.001,
        "data_wait_seconds": 0.00025, "rest_seconds": 0.00075,
        "exposed_communication_seconds_by_layer": {"conv1..fc2": 0.00075, "loss": 0.00025},
        "compute_seconds_by_rank": [0.002, 0.002], "slowest_rank": 0, "imbalance": 1.0,
        "communication_alone_seconds": 0.002, "hidden_share": 0.5,
        "waiting_for_slower_ranks_seconds": 0.0005, "waiting_for_messages_seconds": 0.0005,
        "seconds_by_layer": {
            "conv1": {"forward": 0.0003, "backward_weights": 0.0006},
            "fc2": {"forward": 0.0002, "backward_weights": 0.0004, "backward_data": 0.0005},
        },
    },
    "predicted": {
        "peak_flops_per_second_by_rank": [2e11, 2e11], "memory_bytes_per_second_by_rank": [1e11, 1.1e11],
        "copied_bytes": 65536,
        "layers": {
            "conv1": {"kind": "Conv2d", "flop": 3e7, "forward": 1.5e-4, "backward_weights": 3e-4},
            "fc2": {
                "kind": "Linear", "flop": 1e7, "forward": 0.0001, "backward_weights": 0.0001,
                "backward_data": 0.0001,
            },
        },
    },
    "trace": None,
    "environment": {
        "machines": 1, "hosts": 1, "processors": ["A Processor"], "cores": 2, "simd": "avx2",
        "system": "Linux x86_64", "lockstep": "0.1.0", "python": "3.12.1",
        "numpy": "2.1.0", "numba": "0.63.0", "llvmlite": "0.46.0", "mpi4py": "4.1.0",
        "mpi": "Open MPI v5.0.7", "kernel_sources": "0123456789abcdef",
    },
    "warnings": ["2 ranks x 2 threads share 2 cores; lower --threads to 1"],
}  # fmt: skip

RECIPE = """\
model = "digits"
batch = 64
epochs = 4

[schedule]
kind = "step"
rate = 0.05
milestones = [2, 3]
"""


def write_run(
    folder: Path,
    *,
    steps: int = 40,
    steps_per_epoch: int = 10,
    results: dict[str, Any] | None = RESULTS,
    recipe: str | None = RECIPE,
    tested: bool = True,
    seed: int = 0,
) -> Path:
    """Write the folder of a run whose loss falls; return it."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    progress = np.arange(1, steps + 1) / max(1, steps)
    loss = (2.5 * np.exp(-4 * progress) + 0.05) * rng.lognormal(0, 0.25, steps)
    seconds = 0.002 * rng.lognormal(0, 0.1, steps)
    lines = []
    for step in range(1, steps + 1):
        record = {
            "kind": "step", "step": step, "epoch": (step - 1) // steps_per_epoch, "loss": loss[step - 1],
            "accuracy": round(64 * min(1, 0.1 + progress[step - 1])) / 64,
            "rate": 0.05 * (1 - step / (steps + 1)),
            "seconds": seconds[step - 1], "exposed_communication_seconds": 0.0, "data_wait_seconds": 1e-6,
            "samples_per_second": 64 / seconds[step - 1],
        }  # fmt: skip
        lines.append(json.dumps(record))
        if tested and step % steps_per_epoch == 0:
            epoch = {
                "kind": "epoch", "epoch": step / steps_per_epoch, "step": step,
                "training_loss": float(np.mean(loss[step - steps_per_epoch : step])),
                "final_loss": loss[step - 1], "test_loss": loss[step - 1] * 1.1,
                "test_accuracy": min(0.99, 0.1 + progress[step - 1]),
            }  # fmt: skip
            lines.append(json.dumps(epoch))
    if lines:
        (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    if results is not None:
        (folder / "run.json").write_text(json.dumps(results, indent=2), encoding="utf-8")
    if recipe is not None:
        (folder / "recipe.toml").write_text(recipe, encoding="utf-8")
    return folder
