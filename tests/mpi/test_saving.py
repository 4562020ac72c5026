"""What fails on one of several ranks: one line, exit code 2, and every step that was done is saved."""

import json
import re

from engine.run.finding import find_checkpoint
from tests.mpi.test_train import broken_images, train


def failed(out, *arguments):
    done = train(2, *arguments, "--threads", 1, "--out", out, timeout=60)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    return line


def test_a_damaged_image_in_the_middle_costs_no_step(tmp_path):
    data = f"images:{broken_images(tmp_path / 'images')}"
    line = failed(tmp_path / "run", "cifar10", "--data", data, "--batch", 16, "--steps", 20, "--seed", 1)
    found = re.fullmatch(r"error: .*dog/7\.jpg: .*; after step (\d+): what was done is saved", line)
    steps = [json.loads(each)["step"] for each in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert int(found[1]) == max(steps)
    assert find_checkpoint(tmp_path / "run").name == f"step-{max(steps):08d}"


def test_a_loss_that_is_not_finite_ends_all_ranks_and_names_step_and_layer(tmp_path):
    line = failed(tmp_path / "run", "--lr", "1e6", "--steps", 60, "--checkpoint-steps", 2)
    saved = int(find_checkpoint(tmp_path / "run").name.removeprefix("step-"))
    wanted = (
        rf"error: step \d+: the loss is nan; .* is not finite; the checkpoint of step {saved} is whole; .*"
    )
    assert re.fullmatch(wanted, line)
