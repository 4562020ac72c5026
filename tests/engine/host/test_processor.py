"""The name of the processor."""

import platform

from engine.host.processor import processor


def test_it_is_the_first_that_the_system_lists(tmp_path):
    listed = tmp_path / "cpuinfo"
    listed.write_bytes(b"processor\t: 0\nmodel name\t: Fast \xff 9000\nmodel name\t: Other\n")
    assert processor(listed) == "Fast \N{REPLACEMENT CHARACTER} 9000"


def test_the_processor_has_a_name_also_where_the_system_keeps_no_list(tmp_path):
    assert processor()
    assert processor(tmp_path / "missing") == (platform.processor() or platform.machine())
