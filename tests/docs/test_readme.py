"""README.md: the network that it shows is one, and the pages that it names are there."""

import re
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
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
