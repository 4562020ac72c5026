"""What is read back from disks: each with a whole file, and the reader that must survive damaged ones."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from comm.threads import single_rank
from engine.api.training import Run
from engine.config.errors import UserError
from engine.config.recipe import read_recipe
from engine.data.dataset import DataSource
from engine.data.readers.array_files import open_arrays
from engine.data.readers.cifar10 import open_cifar10
from engine.data.readers.image_folder import open_image_folder
from engine.data.readers.image_list import open_csv
from engine.data.readers.kaldi import open_kaldi
from engine.data.readers.lmdb_images import open_lmdb
from engine.data.readers.mnist import open_mnist
from engine.data.readers.normalise import Normalisation
from engine.data.readers.parquet_images import open_parquet
from engine.data.readers.recordings import open_recordings
from engine.data.readers.webdataset import open_webdataset
from engine.explain import explain_trace, read_results
from engine.formats.names import read_names, tensor_shapes
from engine.formats.safetensors_file import read_safetensors, safetensors_bytes
from engine.formats.torch_file import read_torch
from engine.formats.torch_writer import torch_bytes
from engine.models import MODELS, build_model
from engine.planner.cluster import read_cluster, shipped_clusters
from engine.profile.trace_file import read_trace
from engine.report.csv_file import table
from engine.report.page import page
from engine.report.run_record import read_runs
from engine.report.text import Style, lines
from engine.report.timeline import find_trace, one_step
from engine.run.checkpoint import read_state, read_tensors
from engine.run.finding import find_checkpoint
from engine.run.launch import run
from engine.run.run_folder import rewind
from engine.run.start import new_run, resumed_run
from engine.trained.described import describe
from engine.trained.loading import load_model
from engine.trained.samples import Reading
from layers.layer import Array
from tests.engine.data.files import random_bytes, read_all, write_cifar10, write_image, write_mnist
from tests.engine.data.kaldi_files import random_features, write_compressed, write_folder
from tests.engine.data.packed import (
    caffe_pixels,
    encoded,
    write_caffe,
    write_lmdb,
    write_parquet,
    write_shard,
)
from tests.engine.data.wav_files import write_tone
from tests.engine.formats.torch_archives import one_tensor, write_archive


@dataclass(frozen=True)
class Target:
    """A file, and what reads it."""

    name: str
    path: Path
    read: Callable[[], object]


def targets(folder: Path) -> list[Target]:
    """Write whole files into a folder and return them with their readers."""
    return [
        *_data(folder / "data"),
        *_images(folder / "images"),
        *_formats(folder / "formats"),
        *_speech(folder / "speech"),
        *_ours(folder / "ours"),
        *_theirs(folder / "theirs"),
    ]


def _samples(source: DataSource) -> None:
    """Read all samples and check what the contract says of them."""
    assert source.lines()
    for data in filter(None, (source.train, source.test)):
        x, labels = read_all(data)
        assert np.isfinite(x).all()
        assert all(0 <= label < data.classes for label in labels)


def _data(folder: Path) -> Iterator[Target]:
    for zipped in (False, True):
        for kind in ("images", "labels"):
            inside = folder / f"mnist-{kind}-{zipped}"
            inside.mkdir(parents=True)
            write_mnist(inside, split="train", samples=2, zipped=zipped)
            (path,) = inside.glob(f"train-{kind}*")
            yield Target(
                f"mnist {kind}{' gz' * zipped}", path, lambda inside=inside: _samples(open_mnist(inside))
            )
    emnist = folder / "emnist"
    emnist.mkdir()
    write_mnist(emnist, split="emnist-x-train", samples=2)
    (emnist / "emnist-x-mapping.txt").write_text("\n".join(f"{label} {65 + label}" for label in range(47)))
    yield Target("emnist mapping", emnist / "emnist-x-mapping.txt", lambda: _samples(open_mnist(emnist)))
    cifar = folder / "cifar10"
    cifar.mkdir()
    write_cifar10(cifar, samples=2)
    yield Target("cifar10", cifar / "data_batch_3.bin", lambda: _samples(open_cifar10(cifar)))


def _formats(folder: Path) -> Iterator[Target]:
    """Yield shards, databases, tables, arrays and lists of images."""
    samples, shape = encoded(6), (3, 8, 8)
    write_shard(folder / "webdataset" / "train.tar", samples)
    yield _target(folder / "webdataset" / "train.tar", lambda: open_webdataset(folder / "webdataset", shape))
    write_caffe(folder / "lmdb", samples)
    yield _target(folder / "lmdb" / "data.mdb", lambda: open_lmdb(folder / "lmdb", shape))
    pixels = {b"%08d" % label: caffe_pixels(random_bytes(8, 8, 3), label) for label in range(3)}
    write_lmdb(folder / "pixels", pixels)
    yield _target(folder / "pixels" / "data.mdb", lambda: open_lmdb(folder / "pixels", shape))
    write_parquet(folder / "parquet" / "train.parquet", samples)
    yield _target(folder / "parquet" / "train.parquet", lambda: open_parquet(folder / "parquet", shape))
    arrays = folder / "arrays"
    arrays.mkdir()
    np.savez(arrays / "x.npz", x=random_bytes(3, 8, 8), y=np.arange(3))
    yield _target(arrays / "x.npz", lambda: open_arrays(arrays / "x.npz", shape))
    np.save(arrays / "x.npy", random_bytes(3, 8, 8))
    np.save(arrays / "y.npy", np.arange(3))
    for name in ("x.npy", "y.npy"):
        yield _target(arrays / name, lambda: open_arrays(arrays, shape))
    lists = folder / "lists"
    write_image(lists / "a.png", random_bytes(8, 8, 3))
    (lists / "classes.txt").write_text("ape\ncat\n")
    (lists / "list.csv").write_text("path,label,split\na.png,ape,train\na.png,cat,\na.png,1,test\n")
    for name in ("list.csv", "classes.txt"):
        yield _target(lists / name, lambda: open_csv(lists / "list.csv", shape))


def _target(path: Path, read: Callable[[], DataSource]) -> Target:
    return Target(f"{path.parent.name} {path.name}", path, lambda: _samples(read()))


def _two_frames(path: Path) -> None:
    Image.new("P", (9, 9)).save(path, save_all=True, append_images=[Image.new("P", (9, 9), 3)])


IMAGES: dict[str, Callable[[Path], None]] = {
    "colour.png": lambda path: write_image(path, random_bytes(12, 10, 3)),
    "palette.png": lambda path: Image.fromarray(random_bytes(12, 10, 3)).quantize(16).save(path),
    "deep.png": lambda path: Image.fromarray(np.arange(120, dtype=np.uint16).reshape(12, 10)).save(path),
    "colour.jpg": lambda path: write_image(path, random_bytes(12, 10, 3)),
    "turned.jpg": lambda path: Image.fromarray(random_bytes(12, 10, 3)).save(path, exif=_turned()),
    "progressive.jpg": lambda path: Image.fromarray(random_bytes(12, 10, 3)).save(path, progressive=True),
    "cmyk.jpg": lambda path: Image.new("CMYK", (10, 12)).save(path),
    "frames.gif": _two_frames,
    "plain.bmp": lambda path: write_image(path, random_bytes(12, 10, 3)),
    "plain.tiff": lambda path: write_image(path, random_bytes(12, 10, 3)),
    "packed.tiff": lambda path: Image.fromarray(random_bytes(12, 10, 3)).save(path, compression="tiff_lzw"),
    "plain.webp": lambda path: write_image(path, random_bytes(12, 10, 3)),
    "plain.ppm": lambda path: write_image(path, random_bytes(12, 10, 3)),
    "plain.jp2": lambda path: write_image(path, random_bytes(12, 10, 3)),
    "plain.tga": lambda path: write_image(path, random_bytes(12, 10, 3)),
    "plain.ico": lambda path: write_image(path, random_bytes(16, 16, 3)),
    "plain.pcx": lambda path: write_image(path, random_bytes(12, 10, 3)),
}


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def _images(folder: Path) -> Iterator[Target]:
    for name, write in IMAGES.items():
        root = folder / name
        write_image(root / "ape" / "whole.png", random_bytes(8, 8, 3))
        (root / "cat").mkdir()
        write(root / "cat" / name)
        yield Target(
            name, root / "cat" / name, lambda root=root: _samples(open_image_folder(root, (3, 8, 8)))
        )


def _speech(folder: Path) -> Iterator[Target]:
    features = random_features({"ann": 5, "bob": 3})
    labels, speakers = {"ann": [0, 1, 2, 1, 0], "bob": [2, 2, 0]}, {"ann": "a", "bob": "b"}
    for form in ("FM", "DM", "CM", "CM2", "CM3"):
        inside = folder / form
        write_folder(inside, features, labels, form="DM" if form == "DM" else "FM", speakers=speakers)
        if form.startswith("CM"):
            write_compressed(inside / "feats.ark", features, form)
        yield Target(
            f"kaldi {form}",
            inside / "feats.ark",
            lambda inside=inside: _samples(open_kaldi(inside, (9,))),
        )
    for name in ("ali.txt", "ali.ark", "ali.scp", "feats.scp", "utt2spk"):
        inside = folder / name
        write_folder(
            inside, features, labels, speakers=speakers, labels_in=name if "ali" in name else "ali.scp"
        )
        yield Target(f"kaldi {name}", inside / name, lambda inside=inside: _samples(open_kaldi(inside, (9,))))
    for name in ("whole.wav", "odd.wav"):
        inside = folder / name
        for number, file in enumerate(("odd.wav", "whole.wav")):
            write_tone(inside / str(number) / file, 300 * (1 + number), 400)
        (path,) = inside.glob(f"*/{name}")
        yield Target(
            f"{name} of two", path, lambda inside=inside: _samples(open_recordings(inside, (1, 4, 10)))
        )


def _ours(folder: Path) -> Iterator[Target]:
    folder.mkdir()
    done = folder / "run"
    changes = {"epochs": 0, "steps": 2, "batch": 16, "threads": 1, "checkpoint_steps": 1}
    asked = {**changes, "out": str(done), "trace": str(folder / "trace.json")}
    run(single_rank(), lambda: new_run("digits", asked))
    checkpoint, graph = find_checkpoint(done), build_model("digits")
    yield Target("recipe", done / "recipe.toml", lambda: read_recipe(str(done / "recipe.toml")).check(MODELS))
    cluster = folder / "cluster.toml"
    cluster.write_text(read_cluster(shipped_clusters()[0]).to_toml())
    yield Target("cluster", cluster, lambda: read_cluster(str(cluster)))
    yield Target("state.json", checkpoint / "state.json", lambda: _state(checkpoint))
    for name in ("state.json", "model.safetensors"):
        yield Target(f"{name} shown", checkpoint / name, lambda: _shown(checkpoint))
    for name in ("model.safetensors", "optimizer.safetensors"):
        yield Target(name, checkpoint / name, lambda: read_tensors(checkpoint, graph))
        bare = (
            folder / f"unsummed-{name}"
        )  # as versions wrote it that kept no sums: the tensors' own checks count
        shutil.copytree(checkpoint, bare)
        state = json.loads((bare / "state.json").read_text())
        (bare / "state.json").write_text(
            json.dumps({key: each for key, each in state.items() if key != "files"})
        )
        yield Target(f"{name} without sums", bare / name, lambda bare=bare: read_tensors(bare, graph))
    alone = shutil.copy(checkpoint / "model.safetensors", folder / "weights.safetensors")
    yield Target("weights alone", alone, lambda: _alone(alone))
    for kind in (np.uint8, np.float32):
        array = folder / f"{np.dtype(kind)}.npy"
        np.save(array, random_bytes(3, 1, 3, 4).astype(kind))
        yield Target(array.name, array, lambda array=array: _array(array))
    metrics = folder / "metrics" / "metrics.jsonl"
    metrics.parent.mkdir()
    shutil.copy(done / "metrics.jsonl", metrics)
    yield Target("metrics.jsonl", metrics, lambda: rewind(metrics.parent, 1))
    seen = Run({}, metrics.parent, {})
    yield Target("metrics.jsonl from Python", metrics, seen.metrics)
    yield Target("run.json", done / "run.json", lambda: read_results(done / "run.json").lines())
    trace = folder / "trace.json"
    yield Target("trace", trace, lambda: explain_trace(read_trace(trace), trace).lines())
    shown = folder / "shown"
    shown.mkdir()
    for path in (done / "run.json", done / "recipe.toml", done / "metrics.jsonl", trace):
        shutil.copy(path, shown / path.name)
        yield Target(f"{path.name} of a report", shown / path.name, lambda: _report(shown))


def _report(folder: Path) -> None:
    """Show a run in all ways."""
    (record,) = read_runs([str(folder)])
    trace = find_trace(record, None)
    assert page([record], [None if trace is None else one_step(trace, None)])
    assert lines([record], Style(80, blocks=True, colours=True))
    assert b"".join(table([record]))


def _theirs(folder: Path) -> Iterator[Target]:
    """Yield weights and names of other programs, with and without the zip file's own sums over them."""
    folder.mkdir()
    shapes = tensor_shapes(build_model("digits"))
    tensors = {name: np.zeros(shape, np.float32) for name, shape in shapes.items() if len(shape) == 1}
    named = {"state.pth": torch_bytes(tensors), "theirs.safetensors": safetensors_bytes(tensors, {"a": "b"})}
    for name, content in named.items():
        (folder / name).write_bytes(content)
    yield Target("torch.save", folder / "state.pth", lambda: _weights(read_torch(folder / "state.pth")))
    theirs = folder / "theirs.safetensors"
    yield Target("theirs.safetensors", theirs, lambda: _weights(read_safetensors(theirs)))
    pickled, whole = folder / "data.pkl", folder / "pickled.pth"
    write_archive(whole, one_tensor(), {"0": bytes(24)})
    pickled.write_bytes(one_tensor())

    def read_pickled() -> None:
        write_archive(whole, pickled.read_bytes(), {"0": bytes(24)})
        _weights(read_torch(whole))

    yield Target("pickle of torch.save", pickled, read_pickled)
    names = folder / "names.toml"
    nodes = dict.fromkeys(name.partition(".")[0] for name in shapes)
    names.write_text("".join(f'{node} = "features.{index}"\n' for index, node in enumerate(nodes)))
    yield Target("names of tensors", names, lambda: read_names(str(names), shapes))


def _weights(tensors: dict[str, Array]) -> None:
    assert all(tensor.dtype == np.float32 for tensor in tensors.values())


def _shown(checkpoint: Path) -> None:
    found = describe(checkpoint)
    assert found.lines()
    json.dumps(found.to_json())
    found = describe(checkpoint.parents[1])
    assert found.lines()


def _alone(path: Path) -> None:
    found = describe(path)
    assert found.lines()
    json.dumps(found.to_json())
    assert load_model(path, threads=1).tensors


def _array(path: Path) -> None:
    """Read all rows of an array, each of which may be refused."""
    pixels = Normalisation.of(mean=[0.5], std=[0.25])
    reading = Reading("images", pixels.preprocessing((1, 3, 4), size=""), pixels)
    for sample in reading.samples_in([path]):
        x = np.full((1, 3, 4), np.nan, np.float32)
        with suppress(UserError):
            sample.read(x)
            assert np.isfinite(x).all()


def _state(checkpoint: Path) -> None:
    read_state(checkpoint)
    resumed_run(str(checkpoint), None, {})
