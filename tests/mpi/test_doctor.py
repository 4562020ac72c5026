"""The command that looks at a machine, as ranks of a launcher."""

import json

from tests.mpi.launch import mpirun


def test_ranks_of_a_launcher_take_part_and_speak_once():
    done = mpirun(2, "-m", "engine.doctor", "--json", timeout=120)
    document = json.loads(done.stdout)
    found = {each["check"]: each for each in document["checks"]}
    assert found["MPI"]["state"] == "ok", document
    assert "2 ranks found each other" in found["MPI"]["found"]
