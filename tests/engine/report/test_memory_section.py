"""The section of memory by rank."""

from engine.report.memory_section import MOST_RANKS, memory_section
from engine.report.run_record import read_runs
from tests.engine.report.test_page import Page
from tests.engine.report.written import RESULTS, write_run


def shown(folder, peaks, parameters, **more):
    """Return the cells of the table, row by row."""
    results = {**RESULTS, **more, "peak_resident_bytes_by_rank": peaks, "parameter_bytes_by_rank": parameters}
    section = memory_section(read_runs([str(write_run(folder, results=results))]))
    return None if section is None else Page(section.text).text


def test_each_of_a_few_ranks_has_a_row(tmp_path):
    found = shown(tmp_path, [3e6] * MOST_RANKS, [1e6] * MOST_RANKS)
    assert [text for text in found if text.startswith("rank ")] == [f"rank {n}" for n in range(MOST_RANKS)]
    assert found[-2:] == ["1.00 MB", "3.00 MB"]


def test_of_many_ranks_the_most_a_median_and_the_least_are_shown(tmp_path):
    peaks = [1e6 * (1 + (7 * rank) % 101) for rank in range(101)]
    found = shown(tmp_path, peaks, [5e5] * 101)
    names = [text for text in found if text.startswith("rank ")]
    assert names == [
        f"rank {peaks.index(101e6)}, the most of 101",
        f"rank {peaks.index(51e6)}, a median of 101",
        "rank 0, the least of 101",
    ]
    assert [text for text in found if text.endswith(" MB")] == ["101 MB", "51.0 MB", "1.00 MB"]


def test_memory_for_microbatches_is_called_so(tmp_path):
    found = shown(tmp_path, [3e6], [1e6], accumulate=4)
    assert [text for text in found if text.startswith("rank ")] == ["rank 0, 4 microbatches"]


def test_without_the_memory_of_any_rank_there_is_no_section(tmp_path):
    assert shown(tmp_path, [], []) is None
    assert "\N{EN DASH}" in shown(tmp_path, [1e6], [])
