"""The table of data sets, from which all that users read follows."""

import subprocess
import sys
from pathlib import Path

import pytest

from engine.data import registry
from engine.data.registry import SOURCES, Source, allowed, described
from engine.data.sources import open_data


def test_what_is_allowed_follows_from_the_table():
    assert allowed() == (
        "must be digits, synthetic, images:DIR, csv:FILE, webdataset:DIR, lmdb:DIR, parquet:DIR, arrays:DIR, "
        "mnist:DIR, cifar10:DIR, kaldi:DIR, wav:DIR, or FILE.py:function"
    )
    for name, source in SOURCES.items():
        assert f"{registry.written(name)} ({source.help})" in described()


def test_one_entry_makes_a_data_set(monkeypatch):
    def open_ring(request):
        return registry._synthetic(request)

    monkeypatch.setitem(SOURCES, "ring", Source(open_ring, "a ring", takes_folder=True))
    assert open_data("ring:.", (3,), 2, 0).train.classes == 2
    for spec, problem in (
        ("rnig", r'did you mean "ring"\?\); must be .* wav:DIR, ring:DIR, or FILE'),
        ("ring", "ring needs its folder: ring:DIR"),
    ):
        with pytest.raises(ValueError, match=problem):
            open_data(spec, (3,), 2, 0)


def test_the_table_is_listed_without_numpy():
    code = (
        "import sys; from engine.data.registry import described; described(); print('numpy' in sys.modules)"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
