"""Data sets of other programs under mpirun: what is damaged ends all ranks with one line."""

from tests.engine.data.packed import encoded, write_shard
from tests.mpi.launch import mpirun


def test_a_damaged_shard_ends_two_ranks_with_one_line(tmp_path):
    shard = tmp_path / "train-0.tar"
    write_shard(shard, encoded(8))
    shard.write_bytes(shard.read_bytes()[:3000])
    done = mpirun(2, "-m", "engine.train", "cifar10", "--data", f"webdataset:{tmp_path}", timeout=240.0)
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert f"{shard}: is cut short" in errors[0] or f"{shard}: ends at byte" in errors[0]
    assert "Traceback" not in done.stderr
