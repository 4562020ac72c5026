"""The communicator of a rank whose partners do not exist: to build a rank without starting a run."""

from collections.abc import Sequence
from typing import NoReturn, final

from comm.communicator import Communicator, Message, Transfer


@final
class AbsentCommunicator(Communicator):
    """One rank of some; whoever sends or waits for a message has made a mistake."""

    def __init__(self, rank: int, size: int):
        self.rank, self.size = rank, size

    def split(self, color: int) -> NoReturn:
        """Refuse: nobody knows the colours of the others."""
        raise NotImplementedError

    def post(self, sends: Sequence[Message], receives: Sequence[Message]) -> Transfer:
        """Refuse: nobody is there."""
        raise NotImplementedError

    def abort(self, code: int) -> NoReturn:
        """End this process."""
        raise SystemExit(code)
