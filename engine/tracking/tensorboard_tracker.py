"""TensorBoard: event files in a folder, which it reads while the run goes on.

An event is written in one piece, and what a disk takes of it before it refuses is cut off again, as readers
end at a damaged record. tensorboardX's own writers have a thread that ends with the first error.
"""

import json
import os
import socket
import struct
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Any

from engine.config.paths import expand
from engine.tracking.notes import note, noted
from engine.tracking.tracker import DONE, About, Line

KIND = "tensorboard"
FOLDER = "tensorboard"
"""In the run's folder, where no other is named."""


class TensorBoardTracker:
    """Writes scalars by "step/loss", the recipe as hyperparameters, and recipe and results as texts."""

    def __init__(self, about: About):
        self._about = about
        self._folder = Path()
        self._file: FileIO | None = None
        self._last = dict[str, int]()  # step that has been written of each kind of line

    def begin(self) -> int:
        """Make an event file, which says from which step on events in earlier files do not count.

        Those are what comes again, and the step that was noted last: more of it may have been written.
        """
        if self._file is not None:
            return self._last.get("step", 0)
        self._folder = folder = self._found_folder()
        held = noted(self._about.folder, KIND, self._about.place).get("last", {})
        first = min(int(held.get("step", 0)), self._about.step + 1)
        self._last = {str(kind): min(int(step), first - 1) for kind, step in held.items()}
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}"
        file = FileIO(path, "x")  # unbuffered
        try:
            _append(file, self._first(first))
        except BaseException:
            file.close()
            with suppress(OSError):
                path.unlink()
            raise
        self._file = file
        self._note()
        return first

    def write(self, lines: Sequence[Line]) -> None:
        """Append an event for each line."""
        assert self._file is not None
        new = [each for each in lines if each.step > self._last.get(each.kind, 0)]
        _append(self._file, [_event(each.step, each.time, _scalars(each.values)) for each in new])
        self._last |= {each.kind: each.step for each in new}
        self._note()

    def end(self, ending: str, results: Mapping[str, Any]) -> None:
        """Append the results, and how the run has ended."""
        assert self._file is not None
        from tensorboardX import summary  # noqa: PLC0415 -- an extra: only its users need it

        step = int(results.get("steps", self._about.step))
        texts = {"ended": ending}
        if results:
            texts["weights_sha256"] = str(results["weights_sha256"])
            texts["results"] = _as_code(json.dumps(results, indent=2, default=str))
        events = [_event(step, time.time(), summary.text(name, text)) for name, text in texts.items()]
        _append(self._file, [*events, _event(step, time.time(), _session_end(is_good=ending == DONE))])
        self._file.close()

    def _found_folder(self) -> Path:
        about = self._about
        if held := noted(about.folder, KIND, about.place).get("folder"):
            return Path(held)
        if not about.place:
            return about.folder / FOLDER
        within = about.started_in / expand(about.place, "track")
        folder, number = within / about.name, 1
        while folder.exists() and any(folder.iterdir()):  # another run's of the same name
            number += 1
            folder = within / f"{about.name}-{number}"
        return folder

    def _note(self) -> None:
        about = self._about
        note(about.folder, KIND, about.place, {"folder": str(self._folder), "last": self._last})

    def _first(self, step: int) -> Iterable[bytes]:
        from tensorboardX import summary  # noqa: PLC0415 -- an extra: only its users need it
        from tensorboardX.proto.event_pb2 import Event, SessionLog  # noqa: PLC0415

        about, now = self._about, time.time()
        yield Event(wall_time=now, file_version="brain.Event:2").SerializeToString()
        start = SessionLog(status=SessionLog.START)
        yield Event(wall_time=now, step=step, session_log=start).SerializeToString()
        experiment, session, _ = summary.hparams(dict(about.recipe), {})
        for each in (experiment, session, summary.text("recipe", _as_code(about.recipe_text))):
            yield _event(about.step, now, each)


def _append(file: FileIO, events: Iterable[bytes]) -> None:
    """Append whole records, or none."""
    content = memoryview(b"".join(map(_record, events)))
    before = file.seek(0, os.SEEK_END)
    try:
        while content:
            content = content[file.write(content) or 0 :]
    except OSError:
        file.truncate(before)
        raise


def _record(event: bytes) -> bytes:
    from tensorboardX.record_writer import masked_crc32c  # noqa: PLC0415 -- an extra

    length = struct.pack("<Q", len(event))
    sums = (struct.pack("<I", masked_crc32c(part)) for part in (length, event))
    return b"".join((length, next(sums), event, next(sums)))


def _event(step: int, at: float, summary: Any) -> bytes:
    from tensorboardX.proto.event_pb2 import Event  # noqa: PLC0415 -- an extra

    return bytes(Event(wall_time=at, step=step, summary=summary).SerializeToString())


def _scalars(values: Mapping[str, float]) -> Any:
    from tensorboardX.proto.summary_pb2 import Summary  # noqa: PLC0415 -- an extra

    return Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in values.items()])


def _session_end(*, is_good: bool) -> Any:
    """Return what ends hyperparameters: a run that was interrupted counts as failed there."""
    from tensorboardX.proto.api_pb2 import Status  # noqa: PLC0415 -- an extra
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData, SessionEndInfo  # noqa: PLC0415
    from tensorboardX.proto.summary_pb2 import Summary, SummaryMetadata  # noqa: PLC0415

    status = Status.Value("STATUS_SUCCESS" if is_good else "STATUS_FAILURE")
    info = SessionEndInfo(status=status, end_time_secs=time.time())
    content = HParamsPluginData(session_end_info=info).SerializeToString()
    plugin = SummaryMetadata.PluginData(plugin_name="hparams", content=content)
    metadata = SummaryMetadata(plugin_data=plugin)
    return Summary(value=[Summary.Value(tag="_hparams_/session_end_info", metadata=metadata)])


def _as_code(text: str) -> str:
    """Return text that TensorBoard, which reads Markdown, shows as it is."""
    return "".join(f"    {line}\n" for line in text.splitlines())
