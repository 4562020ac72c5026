"""``python -m lockstep train ...``: the same as the command ``lockstep train ...``."""

import sys

if not sys.flags.safe_path:  # python -m puts the current folder first: the user may have an engine.py there
    sys.path.append(sys.path.pop(0))

from engine.lockstep_command import main

if __name__ == "__main__":
    sys.exit(main())
