"""Read what trackers have written: by the peers' own readers, and event files by their description."""

import json
import struct
from collections import defaultdict
from pathlib import Path

from engine.tracking.tracker import About, Line

RECIPE = {"batch": 64, "schedule.rate": 0.1, "model": "digits", "fuse": True, "freeze": "[]"}
RESULTS = {
    "steps": 4, "weights_sha256": "abc", "test_accuracy": 0.75, "interrupted": False, "best": None,
}  # fmt: skip
BLOCK = 32768  # of a LevelDB log, which is what wandb writes


def about(folder, *, step=0, place="", is_changed=False):
    """Return a run to be tracked."""
    folder.mkdir(exist_ok=True)
    metrics = folder / "metrics.jsonl"
    return About("run", folder, place, folder.parent, metrics, step, is_changed, RECIPE, "batch = 64\n")


def line(step, loss, kind="step"):
    """Return a line of a loss."""
    return Line(kind, step, 1000.0 + step, {f"{kind}/loss": loss, f"{kind}/epoch": 0.0})


def events(folder):
    """Yield the events of a folder's files, in the order in which TensorBoard reads them."""
    from tensorboardX.proto.event_pb2 import Event  # noqa: PLC0415 -- an extra

    for path in sorted(Path(folder).glob("*tfevents*")):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            yield Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]


def scalars(folder):
    """Return (step, value) of each scalar; what a START says is stale is left out, as by TensorBoard."""
    from tensorboardX.proto.event_pb2 import SessionLog  # noqa: PLC0415 -- an extra

    found = defaultdict(list)
    for event in events(folder):
        if event.HasField("session_log") and event.session_log.status == SessionLog.START:
            for name, held in found.items():
                found[name] = [each for each in held if each[0] < event.step]
        for value in event.summary.value:
            if value.HasField("simple_value"):
                found[value.tag].append((event.step, value.simple_value))
    return dict(found)


def texts(folder):
    """Return the last text of each name."""
    return {
        value.tag.removesuffix("/text_summary"): value.tensor.string_val[0].decode()
        for event in events(folder)
        for value in event.summary.value
        if value.tag.endswith("/text_summary")
    }


def wandb_records(folder):
    """Yield the messages in the files of a run that wandb has written offline."""
    from wandb.proto.wandb_internal_pb2 import Record  # noqa: PLC0415 -- an extra

    for path in sorted(Path(folder).glob("wandb/offline-run-*/*.wandb")):
        content, whole = path.read_bytes(), b""
        at = 7  # behind the file's own header
        while at + 7 <= len(content):
            if BLOCK - at % BLOCK < 7:
                at += BLOCK - at % BLOCK
                continue
            _, length, kind = struct.unpack("<IHB", content[at : at + 7])
            whole += content[at + 7 : at + 7 + length]
            at += 7 + length
            if kind in (1, 4):  # full, last
                yield Record.FromString(whole)
                whole = b""


def wandb_history(folder):
    """Return (step, value) of each key of the history."""
    found = defaultdict(list)
    for record in wandb_records(folder):
        if record.HasField("history"):
            items = {"/".join(each.nested_key) or each.key: each.value_json for each in record.history.item}
            step = int(json.loads(items["_step"])) if "_step" in items else record.history.step.num
            for name, value in items.items():
                found[name].append((step, json.loads(value)))
    return dict(found)
