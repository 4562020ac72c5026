"""README.md: the network that it shows is one, and the pages that it names are there."""

import re
import tomllib
from pathlib import Path

from engine.models import build_model

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")


def test_the_network_is_one(tmp_path):
    (block,) = re.findall(r"```python\n(# my_network\.py\n.*?)```", README, re.S)
    file = tmp_path / "my_network.py"
    file.write_text(block, encoding="utf-8")
    assert build_model(f"{file}:net", {"classes": 7, "width": 8}).output_shape == (7,)


def test_every_link_leads_somewhere():
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_hash_that_a_reader_will_see_is_the_published_one():
    table = tomllib.loads((ROOT / "engine/run/published.toml").read_text("utf-8"))
    published = table["digits"]["weights_sha256"]
    assert published in README
    shown = re.findall(r"`([0-9a-f]{16})\.\.\.`", (ROOT / "docs/index.md").read_text("utf-8"))
    assert shown == [published[:16]]
