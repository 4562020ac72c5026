"""The command ``python -m engine.models``, which is `engine.networks`: it asks the floors above this one."""

from engine.host.beginning import begin

if __name__ == "__main__":  # before the other imports, which take longer than a Ctrl-C
    begin()

import sys

from engine.networks import main

if __name__ == "__main__":
    sys.exit(main())
