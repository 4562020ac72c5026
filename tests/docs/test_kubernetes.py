"""docs/kubernetes: the manifest parses, its parts fit each other, and so does the command in it."""

import re

import pytest

from tests.docs.shell import ROOT, Command, commands, mistake

FOLDER = ROOT / "docs" / "kubernetes"


@pytest.fixture
def parts():
    """Return the specification of the job, and those of the pods by their part in it."""
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed: it comes with the extra docs")
    job = yaml.safe_load((FOLDER / "mpijob.yaml").read_text("utf-8"))
    assert (job["apiVersion"], job["kind"]) == ("kubeflow.org/v2beta1", "MPIJob")
    replicas = job["spec"]["mpiReplicaSpecs"]
    assert set(replicas) == {"Launcher", "Worker"}
    return job["spec"], {name: each["template"]["spec"] for name, each in replicas.items()}


def test_pods_are_alike_in_what_they_must_share(parts):
    spec, pods = parts
    (launcher,), (worker,) = (pods[name]["containers"] for name in ("Launcher", "Worker"))
    assert launcher["image"] == worker["image"]
    assert launcher["volumeMounts"] == worker["volumeMounts"]
    volumes = {each["name"] for each in pods["Worker"]["volumes"]}
    assert {each["name"] for each in worker["volumeMounts"]} == volumes
    assert worker["resources"]["requests"] == worker["resources"]["limits"]
    (user,) = {each["securityContext"]["runAsUser"] for each in (launcher, worker)}
    image = (FOLDER / "Containerfile").read_text("utf-8")
    assert f"--uid {user} mpiuser" in image
    assert f"\nUSER {user}\n" in image
    assert spec["sshAuthMountPath"] == "/home/mpiuser/.ssh"
    assert worker["args"][-1] in image


def test_the_launcher_starts_as_many_ranks_as_there_are_workers(parts):
    spec, pods = parts
    (script,) = pods["Launcher"]["containers"][0]["args"]
    (run,) = (command for line in script.splitlines() for command in commands(line, line))
    assert mistake(run) is None
    workers = spec["mpiReplicaSpecs"]["Worker"]["replicas"] * spec["slotsPerWorker"]
    assert run.arguments[run.arguments.index("-n") + 1] == str(workers)
    for begin in re.findall(r"begin=\((.*?)\)", script):
        assert mistake(Command("run", tuple(begin.split()), begin)) is None


def test_the_image_holds_what_the_package_is_built_of():
    copied = re.findall(r"^COPY (.*) /src", (FOLDER / "Containerfile").read_text("utf-8"), re.M)
    names = {name for line in copied for name in line.split()}
    assert all((ROOT / name).exists() for name in names)
    assert {"pyproject.toml", "setup.py", "comm", "engine", "layers", "README.md", "LICENSE"} <= names
