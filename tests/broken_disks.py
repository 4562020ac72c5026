"""Run ``python -m tests.broken_disks``: break each single call of the file system in a run, in each way."""

import sys
import tempfile
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

from tests.engine.run.test_broken_disk import KINDS, calls, campaign


def main() -> int:
    """Run the whole campaign; its short version is `tests.engine.run.test_broken_disk`."""
    with tempfile.TemporaryDirectory() as folder:
        count = calls(Path(folder) / "whole")
        for kind in KINDS:
            with redirect_stderr(StringIO()):
                campaign(Path(folder), range(1, count + 1), kind)
            print(f"{kind}: {count} calls broken one by one; what was saved was there, and the run went on")
    return 0


if __name__ == "__main__":
    sys.exit(main())
