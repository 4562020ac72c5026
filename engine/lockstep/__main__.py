"""``python -m lockstep train ...``: the same as the command ``lockstep train ...``."""

import sys

from engine.lockstep_command import main

if __name__ == "__main__":
    sys.exit(main())
