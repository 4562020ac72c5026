"""The runs whose bits are golden: small networks, which together reach every layer, algorithm and option."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.config.recipe import OptimizerFields, Recipe, ScheduleFields, read_recipe
from engine.config.wording import counted
from engine.data.counter import Stream, random_words
from engine.data.dataset import DataSource
from engine.data.packing.pack import pack
from engine.data.packing.samples import Taking
from engine.data.readers.image_file import load_pillow
from engine.data.readers.image_pixels import read_pixels
from engine.data.readers.synthetic import Synthetic
from engine.data.sources import open_data
from engine.graph import Graph
from engine.models import build_model
from layers.products import Unit
from tests.engine import cluster, graphs
from tests.engine.data.files import idx_bytes, write_image
from tests.engine.data.kaldi_files import write_folder
from tests.engine.data.wav_files import wav_bytes
from tests.golden import networks

KEPT = ("weights_sha256", "state_sha256", "final_loss", "test_loss", "test_accuracy")
"""What of a run's results is golden."""

RECIPE = Recipe(
    batch=32,
    leaves=8,
    steps=4,
    checkpoint_every=0,
    optimizer=OptimizerFields(momentum=0.9, nesterov=True, weight_decay=5e-4),
    schedule=ScheduleFields(rate=0.01),
)
_SAMPLES = 64
_TESTED = 20


@dataclass(frozen=True)
class Run:
    """What is trained, and how it is run, which must change no bit."""

    network: Callable[[], Graph] | None = None
    """Trained on synthetic samples; None: the recipe's model, on the recipe's data."""
    recipe: Recipe = RECIPE
    ranks: int = 1
    threads: int = 1
    ranks_per_host: int = 1
    files: Callable[[Path], str] | None = None
    """Writes the data into a folder and returns how the recipe names it."""
    unit: Unit | None = None
    """What makes products of bf16; None: what this machine has."""

    def __str__(self) -> str:
        what = f"{self.recipe.model} on {self.recipe.data}" if self.network is None else self.network.__name__
        usual = flat(Recipe(model=self.recipe.model, data=self.recipe.data, checkpoint_every=0))
        options = [f"{name}={value}" for name, value in flat(self.recipe).items() if value != usual[name]]
        how = (
            f"{counted(self.ranks, 'rank')} x {counted(self.threads, 'thread')}, {self.ranks_per_host} a host"
        )
        by = "" if self.unit is None else f", products by {self.unit.name.lower()}"
        return f"{what}: {how}{by}; {', '.join(options)}"

    def graph(self) -> Graph:
        """Return the network."""
        if self.network is not None:
            return self.network()
        return build_model(self.recipe.model, self.recipe.model_arguments)

    def data(self, graph: Graph, folder: Path) -> DataSource:
        """Return the samples; `folder` is for files."""
        (classes,), shape = graph.output_shape, graph.input_shape
        if self.network is None:
            spec = self.files(folder) if self.files else self.recipe.data
            return open_data(spec, shape, classes, self.recipe.seed, centre_crop=self.recipe.centre_crop)
        make = partial(Synthetic.make, shape, classes=classes)
        return DataSource(make(length=_SAMPLES, seed=1), make(length=_TESTED, seed=2))


def ends_with(run: Run, folder: Path) -> dict[str, Any]:
    """Train as a run says, ranks being threads, and return of its results what is kept."""
    graph = run.graph()
    results, _ = cluster.train(
        run.ranks,
        graph,
        run.recipe,
        data=run.data(graph, folder),
        threads=run.threads,
        ranks_per_host=run.ranks_per_host,
        unit=run.unit,
    )
    return {name: results[name] for name in KEPT if results[name] is not None}


def flat(recipe: Recipe) -> dict[str, Any]:
    """Return the fields of a recipe by name, those of its tables by dotted names."""
    tables = {"optimizer": recipe.optimizer, "schedule": recipe.schedule}
    inner = {f"{table}.{name}": value for table, its in tables.items() for name, value in vars(its).items()}
    return {name: value for name, value in vars(recipe).items() if name not in tables} | inner


def _recipe(
    *, optimizer: Mapping[str, Any] | None = None, schedule: Mapping[str, Any] | None = None, **fields: Any
):
    return replace(
        RECIPE,
        optimizer=replace(RECIPE.optimizer, **(optimizer or {})),
        schedule=replace(RECIPE.schedule, **(schedule or {})),
        **fields,
    )


def _shipped(name: str, rate: float, **fields: Any) -> Recipe:
    recipe = read_recipe(name)
    schedule = replace(recipe.schedule, rate=rate)
    return replace(recipe, epochs=0, checkpoint_every=0, schedule=schedule, **fields)


def _pixels(*shape: int, use: int) -> NDArray[np.uint8]:
    """Draw pixels by key; NumPy's own integers may change from one version to the next."""
    count = int(np.prod(shape))
    words = random_words(Stream.SYNTHETIC, count, seed=7, counter=(use, 7))
    return (words >> np.uint64(56)).astype(np.uint8).reshape(shape)


def _images(folder: Path) -> str:
    """Write PNG files of three classes, some of the network's size and some to be resized, and grey ones."""
    for split, count in (("train", 12), ("test", 4)):
        for label, name in enumerate(("blue", "green", "red")):
            for index in range(count):
                size = ((16, 16), (20, 24), (31, 17))[index % 3]
                pixels = _pixels(*size, 3, use=100 * label + index + 1000 * (split == "test")) // 2
                pixels[..., label] += 100
                image = pixels[..., 0] if index == 5 else pixels
                write_image(folder / split / name / f"{index:02d}.png", image)
    return f"images:{folder}"


def _packed(kind: str) -> Callable[[Path], str]:
    """Return what writes the same images in another format."""

    def write(folder: Path) -> str:
        source, spec = open_data(_images(folder / "pictures"), (3, 16, 16), 3, 0), f"{kind}:{folder / kind}"
        pack(source, spec, taking=Taking(), threads=1, show=str, say=str)
        return spec

    return write


def _listed(folder: Path) -> str:
    """List the same images."""
    lines = ["path,label,split"]
    for split in ("train", "test"):
        lines += [f"{path.relative_to(folder)},{path.parent.name},{split}" for path in _files(folder, split)]
    (folder / "list.csv").write_text("\n".join(lines))
    return f"csv:{folder / 'list.csv'}"


def _as_arrays(folder: Path) -> str:
    """Write the pixels that are made of the same images."""
    load_pillow()
    for split in ("train", "test"):
        files = _files(folder, split)
        pixels = [read_pixels(path, channels=3, height=16, width=16) for path in files]
        np.save(folder / f"x_{split}.npy", np.stack(pixels))
        np.save(folder / f"y_{split}.npy", np.repeat(np.arange(3), len(files) // 3))
    return f"arrays:{folder}"


def _files(folder: Path, split: str) -> list[Path]:
    if not (folder / split).exists():
        _images(folder)
    return sorted((folder / split).glob("*/*.png"))


def _mnist(folder: Path) -> str:
    for split, count in (("train", 64), ("t10k", 20)):
        pixels = _pixels(count, 28, 28, use=count)
        labels = (np.arange(count) % 10).astype(np.uint8)
        (folder / f"{split}-images-idx3-ubyte").write_bytes(idx_bytes(pixels))
        (folder / f"{split}-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
    return f"mnist:{folder}"


def _cifar10(folder: Path) -> str:
    for number, name in enumerate(("test_batch", *(f"data_batch_{number}" for number in range(1, 6)))):
        records = _pixels(16, 3073, use=number)
        records[:, 0] %= 10
        (folder / f"{name}.bin").write_bytes(records.tobytes())
    return f"cifar10:{folder}"


def _frames(folder: Path) -> str:
    """Write Kaldi's features of four utterances, and a label of each frame."""
    for split, lengths in (("train", (20, 33, 15)), ("test", (12,))):
        features, labels = {}, {}
        for number, length in enumerate(lengths):
            name = f"{split}{number}"
            features[name] = _pixels(length, 3, use=10 * length).astype(np.float32) / 16
            labels[name] = [(frame // 3 + number) % 4 for frame in range(length)]
        write_folder(folder / split, features, labels)
    return f"kaldi:{folder}"


def _recordings(folder: Path) -> str:
    """Write noise of three classes, one louder than the other."""
    for split, count in (("train", 8), ("test", 3)):
        for label, name in enumerate(("high", "low", "mid")):
            for index in range(count):
                use = 100 * label + index + 1000 * (split == "test")
                samples = (_pixels(900, use=use).astype(np.int64) - 128) << (2 * label + 1)
                path = folder / split / name / f"{index}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(wav_bytes(samples))
    return f"wav:{folder}"


PHOTOGRAPHS = _recipe(
    model="cifar10", model_arguments={"classes": 3, "image": [3, 16, 16]}, data="images:",
    augment="flip,crop2", batch=16, leaves=4, steps=3,
)  # fmt: skip

_BF16_IMAGES = Run(
    graphs.convolutional,
    _recipe(precision="bf16", plan="conv1=2,conv3=2,conv5=2,fc6=2", conv_feature_leaves=2, steps=2),
    ranks=4,
    ranks_per_host=2,
)

RUNS = {
    "digits": Run(None, _shipped("digits", 0.05, steps=20), threads=2),
    "plain_sgd": Run(
        graphs.perceptron,
        _recipe(leaves=1, seed=5, optimizer={"momentum": 0.0, "nesterov": False, "weight_decay": 0.0}),
    ),
    "milestones": Run(
        graphs.chain,
        _recipe(
            optimizer={"nesterov": False},
            schedule={"kind": "step", "milestones": (0.5, 1.0), "factor": 0.3},
        ),
        ranks=3,
    ),
    "cosine": Run(
        graphs.branches,
        _recipe(schedule={"kind": "cosine", "warmup_epochs": 0.5}, steps=6),
        ranks=2,
        ranks_per_host=2,
    ),
    "shortcuts": Run(graphs.residual, ranks=2, threads=2),
    "unfused": Run(graphs.residual, _recipe(fuse=False, overlap=False, leaves=16, seed=3), threads=2),
    "dropout": Run(graphs.with_dropout, ranks=3, ranks_per_host=3),
    "state": Run(networks.with_state, ranks=2),
    "norm": Run(graphs.normed, _recipe(batch=64), ranks=4, ranks_per_host=2),
    "norm_of_samples": Run(graphs.normed_samples, ranks=2),
    "norm_together": Run(graphs.normed, _recipe(norm_groups=1, leaves=16), ranks=3),
    "norm_apart": Run(graphs.normed, _recipe(norm_groups=4), threads=2),
    "frozen_and_rates": Run(
        graphs.mixed,
        _recipe(freeze=("conv1", "fc4"), schedule={"rates": {"fc6": 3.0, "conv*": 0.5}}),
        ranks=2,
    ),
    "adamw": Run(
        networks.with_state,
        _recipe(
            steps=6,
            ema=0.75,
            optimizer={
                "kind": "adamw", "nesterov": False, "weight_decay": 0.1, "clip_norm": 0.5,
                "decay_exempt": ("*.bias",),
            },
            schedule={"kind": "one_cycle", "start": 0.1, "peak_epochs": 1.0, "end": 0.05},
        ),
        ranks=2,
    ),
    "lars": Run(
        graphs.mixed,
        _recipe(
            plan="fc4=2,fc5=2",
            label_smoothing=0.1,
            mixup=0.2,
            cutmix=1.0,
            optimizer={
                "kind": "lars", "nesterov": False, "trust_coefficient": 0.02, "decay_exempt": ("*.bias",),
            },
            schedule={"kind": "polynomial", "power": 2, "rate": 0.5, "warmup_epochs": 0.5},
        ),
        ranks=4,
        ranks_per_host=2,
    ),
    "weighted_classes": Run(
        graphs.branches,
        _recipe(class_weights=(1.0, 3.0, 0.5), sampling="balanced", label_smoothing=0.1, mixup=0.5),
        ranks=2,
    ),
    "drawn_samples": Run(
        graphs.with_dropout,
        _recipe(sampling=(1.0, 3.0, 0.0), class_weights="balanced", mixup=1.0),
        ranks=3,
    ),
    "lamb": Run(
        graphs.branches,
        _recipe(
            optimizer={
                "kind": "lamb", "nesterov": False, "betas": (0.8, 0.9), "eps": 1e-4, "clip_norm": 1.0,
            },
        ),
        ranks=3,
    ),
    "split_features": Run(graphs.wide, _recipe(plan="fc1=2,fc2=2,fc3=2,fc4=2"), ranks=2, threads=2),
    "hybrid": Run(
        graphs.convolutional,
        _recipe(plan="conv1=2,conv3=2,conv5=2,fc6=2", conv_feature_leaves=2, steps=2),
        ranks=4,
        ranks_per_host=2,
    ),
    "hybrid_in_microbatches": Run(
        graphs.convolutional,
        _recipe(plan="conv1=2,conv3=2,conv5=2,fc6=2", conv_feature_leaves=2, steps=2, accumulate=2),
        ranks=4,
        ranks_per_host=2,
    ),
    "images": Run(graphs.convolutional, ranks=2, ranks_per_host=2),
    "images_direct": Run(graphs.convolutional, _recipe(conv="direct", steps=2), threads=2),
    "images_split": Run(
        graphs.convolutional,
        _recipe(plan="conv2=4,conv3=4,fc6=4", conv_feature_leaves=4, steps=2),
        ranks=4,
    ),
    "first_layers": Run(networks.first_layers, _recipe(steps=2), ranks=2),
    "pooled_first": Run(networks.pooled_first, _recipe(steps=2), threads=2),
    "winograd": Run(networks.winograd, _recipe(steps=2), ranks=2),
    "photographs": Run(None, PHOTOGRAPHS, files=_images),
    **{
        f"photographs_{kind}": Run(None, replace(PHOTOGRAPHS, data=f"{kind}:"), ranks=ranks, files=files)
        for kind, ranks, files in (
            ("csv", 1, _listed), ("arrays", 2, _as_arrays), ("webdataset", 2, _packed("webdataset")),
            ("lmdb", 3, _packed("lmdb")), ("parquet", 1, _packed("parquet")),
        )
    },
    "parts_of_photographs": Run(
        None,
        replace(
            PHOTOGRAPHS, augment="resized_crop0.3,flip,erase0.5,cutout4", centre_crop=0.75, shuffle_window=6
        ),
        ranks=2,
        files=_images,
    ),
    "frames": Run(
        None,
        _recipe(
            model="cd_dnn", model_arguments={"classes": 4, "features": 33, "layers": 2, "hidden": 32},
            data="kaldi:", batch=16, leaves=4, steps=4,
        ),
        ranks=2,
        files=_frames,
    ),
    "recordings": Run(
        None,
        _recipe(
            model="cd_dnn", model_arguments={"classes": 3, "features": 160, "layers": 1, "hidden": 32},
            data="wav:", batch=8, leaves=4, steps=4,
        ),
        files=_recordings,
    ),
    "mnist": Run(None, _shipped("mnist", 0.003, steps=2, batch=32, data="mnist:"), ranks=2, files=_mnist),
    "cifar10": Run(
        None, _shipped("cifar10", 0.003, steps=2, batch=32, data="cifar10:"), threads=2, files=_cifar10
    ),
    "synthetic": Run(
        None, _recipe(model="digits", data="synthetic", batch=64, leaves=64, steps=10), ranks=3
    ),
    "many_channels": Run(networks.many_channels, _recipe(steps=2, batch=8, leaves=2), threads=2),
    "large_products": Run(networks.large, _recipe(batch=64, leaves=1), threads=2),
    "middle_leaves": Run(networks.large, _recipe(batch=64, leaves=4), ranks=2),
    "pointwise": Run(networks.pointwise, _recipe(steps=2, batch=16, leaves=2), ranks=2),
    "activated": Run(networks.activated, ranks=2),
    "separable": Run(networks.separable, ranks=2),
    "grouped": Run(networks.grouped, _recipe(steps=2), ranks=2, threads=2),
    "whitened": Run(networks.whitened, ranks=2),
    "squeezed": Run(networks.squeezed, ranks=2, threads=2),
    "bf16_images": _BF16_IMAGES,
    "bf16_images_in_registers": replace(_BF16_IMAGES, unit=Unit.REGISTERS),
    "bf16_images_by_software": replace(_BF16_IMAGES, unit=Unit.SOFTWARE),
    "bf16_first_layers": Run(networks.first_layers, _recipe(precision="bf16", steps=2), threads=2),
    "bf16_pointwise": Run(
        networks.pointwise, _recipe(precision="bf16", steps=2, batch=16, leaves=2), ranks=2
    ),
    "bf16_products": Run(networks.large, _recipe(precision="bf16", batch=64, leaves=4), ranks=2),
    "bf16_squeezed": Run(networks.squeezed, _recipe(precision="bf16", accumulate=2), threads=2),
    "identical": Run(
        networks.identical,
        _recipe(
            augment="alternating_flip,shift2",
            plan="conv2=2",
            conv_feature_leaves=2,
            schedule={"kind": "exponential", "rate": 0.1, "end": 0.125},
        ),
        ranks=2,
    ),
}  # fmt: skip
"""By name, as in `golden.toml`."""
