"""What a command may write over, and what never."""

import pytest

from engine.config.errors import UserError
from engine.run.output_place import check_output


@pytest.mark.parametrize(
    "path",
    [
        "run/recipe.toml",
        "run/run.json",
        "run/metrics.jsonl",
        "run/checkpoints/best.json",
        "run/checkpoints/step-00000001/model.safetensors",
        "run/checkpoints/step-00000001/optimizer.safetensors",
        "run/checkpoints/step-00000001/state.json",
        "link/model.safetensors",
    ],
)
@pytest.mark.parametrize("overwrite", [True, False])
def test_files_of_a_run_are_not_written_over(tmp_path, path, overwrite):
    checkpoint = tmp_path / "run/checkpoints/step-00000001"
    checkpoint.mkdir(parents=True)
    (tmp_path / "link").symlink_to(checkpoint)
    (checkpoint / "state.json").write_text("{}")
    (tmp_path / "run/recipe.toml").write_text("")
    (tmp_path / "run/checkpoints/best.json").write_text("{}")
    with pytest.raises(UserError, match=f"^out: .*{path}: is a file of a run, which no other takes"):
        check_output(tmp_path / path, "out", overwrite=overwrite)


def test_files_of_the_users_beside_them_are(tmp_path):
    (tmp_path / "state.json").write_text("{}")
    for name in ("mine.safetensors", "run.json", "best.json"):
        (tmp_path / name).write_text("mine")
        check_output(tmp_path / name, overwrite=True)


def test_what_is_read_is_not_written_over_by_whatever_name(tmp_path):
    (tmp_path / "read").write_text("mine")
    (tmp_path / "other").hardlink_to(tmp_path / "read")
    for name in ("read", "other"):
        with pytest.raises(UserError, match=f"^.*{name}: is what is read here, and is not written over"):
            check_output(tmp_path / name, overwrite=True, reads=[tmp_path / "none", tmp_path / "read"])
    check_output(tmp_path / "new", overwrite=True, reads=[tmp_path / "none", tmp_path / "read"])
    check_output(tmp_path / "read", overwrite=True, reads=[tmp_path / "none"])
