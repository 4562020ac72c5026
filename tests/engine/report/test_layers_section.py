"""The sections of time and of layers: what can be read in them, in order."""

import re

from engine.report.layers_section import layers_section
from engine.report.run_record import read_runs
from engine.report.time_section import time_section
from tests.engine.report.test_page import Page
from tests.engine.report.written import RESULTS, write_run

DASH = "\N{EN DASH}"


def told(section) -> str:
    return " ".join(text.strip() for text in Page(section.text).text if text.strip())


def runs(folder, count=1, results=RESULTS):
    return read_runs([str(write_run(folder / f"run{n}", results=results)) for n in range(count)])


def test_the_parts_of_a_step_are_told_with_their_shares(tmp_path):
    text = told(time_section(runs(tmp_path)))
    assert text.startswith(
        "Where the time went A step takes 4.00 ms on average: all figures are means, over all but the first "
        "few steps, and over ranks. "
    )
    assert (
        "part of a step ms share forward 0.500 12.5 % backward weights 1.000 25.0 % "
        "backward data 0.500 12.5 % update 0.000 0.0 % exposed communication 1.000 25.0 % "
        "wait for data 0.250 6.2 % rest 0.750 18.8 % "
        "Compute of the slowest rank, 0: 2.00 ms, 1.00 x the mean; communication alone, with nothing to "
    ) in text
    assert text.endswith("Exposed communication by layer ms of a step conv1..fc2 0.750 loss 0.250")


def test_several_runs_have_a_column_each(tmp_path):
    text = told(time_section(runs(tmp_path, 2)))
    assert "run0 4.00 ms run1 4.00 ms" in text
    assert "part of a step run0 share run1 share forward 0.500 12.5 % 0.500 12.5 %" in text
    assert "run1 : compute of the slowest rank" in text


def test_bars_are_as_long_as_their_seconds(tmp_path):
    text = time_section(runs(tmp_path)).text
    widths = [float(width) for width in re.findall(r"width:([\d.]+)%", text)]
    assert widths == [12.5, 25, 12.5, 25, 6.25, 18.75], "an update of 0 s has no bar"
    layers = layers_section(runs(tmp_path)).text
    bars = [float(width) for width in re.findall(r"width:([\d.]+)%", layers)]
    longest = 0.0011  # of fc2
    seconds = [0.0003, 0.0006, 0.00015, 0.0003, 0.0002, 0.0004, 0.0005, 0.0001, 0.0001, 0.0001]
    assert bars == [round(100 * each / longest, 3) for each in seconds]


def test_layers_are_told_with_ratio_and_share_of_the_peak(tmp_path):
    text = told(layers_section(runs(tmp_path)))
    assert (
        "layer ms of a step measured ms predicted ms ratio of peak "
        "conv1 Conv2d 0.900 0.450 2.00 33 % fc2 Linear 1.100 0.300 3.67 14 % all layers 2.000 0.750 2.67 22 %"
    ) in text
    assert text.endswith(
        "Numbers by pass Milliseconds by layer and pass of run0 forward backward weights backward data layer "
        "measured predicted measured predicted measured predicted GFLOP a pass "
        f"conv1 0.300 0.150 0.600 0.300 {DASH} {DASH} 0.03 fc2 0.200 0.100 0.400 0.100 0.500 0.100 0.01"
    )


def test_without_a_prediction_it_is_said_why(tmp_path):
    text = told(layers_section(runs(tmp_path, results={**RESULTS, "predicted": None})))
    assert "The planner predicts nothing for a run that was interrupted." in text
    assert f"conv1 0.900 {DASH} {DASH} {DASH}" in text


def test_of_several_runs_the_first_is_open(tmp_path):
    section = Page(layers_section(runs(tmp_path, 3)).text)
    shown = [attributes for tag, attributes in section.tags if attributes.get("class") == "run"]
    assert ["open" in each for each in shown] == [True, False, False]
