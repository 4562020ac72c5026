"""Augmentation against every flip and crop written out, and its independence of order."""

import numpy as np
import pytest

from engine.config.errors import UserError
from engine.data.augment import Augment
from engine.data.counter import Stream, random_words
from engine.data.recolour import Recolouring


def augmented(
    augment: Augment, image: np.ndarray, *, sample: int, epoch: int = 0, seed: int = 0
) -> np.ndarray:
    x = image.copy()
    augment.apply(x, np.full_like(x, np.nan), seed=seed, epoch=epoch, sample=sample)
    return x


def image(*shape: int) -> np.ndarray:
    return 1 + np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def every_crop(x: np.ndarray, padding: int) -> set[bytes]:
    padded = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
    places = range(2 * padding + 1)
    height, width = x.shape[1:]
    return {padded[:, i : i + height, j : j + width].tobytes() for i in places for j in places}


@pytest.mark.parametrize("shape", [(3, 6, 5), (1, 4, 9)])
@pytest.mark.parametrize("padding", [1, 3])
def test_crops_are_the_crops_of_the_padded_image_and_all_occur(shape: tuple[int, ...], padding: int) -> None:
    x = image(*shape)
    augment = Augment(crop_padding=padding)
    got = {augmented(augment, x, sample=sample).tobytes() for sample in range(600)}
    assert got == every_crop(x, padding)


def test_flip_mirrors_half_of_the_images() -> None:
    x = image(3, 4, 5)
    got = [augmented(Augment(flip=True), x, sample=sample).tobytes() for sample in range(1000)]
    assert set(got) == {x.tobytes(), x[:, :, ::-1].tobytes()}
    assert 400 < got.count(x.tobytes()) < 600


def test_flip_and_crop_combine() -> None:
    x = image(2, 4, 4)
    got = {augmented(Augment(flip=True, crop_padding=1), x, sample=sample).tobytes() for sample in range(400)}
    assert got == every_crop(x, 1) | every_crop(x[:, :, ::-1], 1)


def test_result_depends_on_seed_epoch_and_sample_only() -> None:
    augment = Augment(flip=True, crop_padding=4)
    x = image(3, 8, 8)
    keys = [(seed, epoch, sample) for seed in range(3) for epoch in range(3) for sample in range(20)]
    forward = {k: augmented(augment, x, seed=k[0], epoch=k[1], sample=k[2]) for k in keys}
    for key in reversed(keys):
        again = augmented(augment, x, seed=key[0], epoch=key[1], sample=key[2])
        np.testing.assert_array_equal(again, forward[key])
    for changed in ((1, 0), (0, 1)):
        assert any(
            not np.array_equal(forward[0, 0, sample], forward[*changed, sample]) for sample in range(20)
        )


def test_none_leaves_every_sample_alone() -> None:
    features = np.arange(5, dtype=np.float32)
    Augment().check(features.shape)
    np.testing.assert_array_equal(augmented(Augment(), features, sample=0), np.arange(5))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("none", Augment()),
        ("flip", Augment(flip=True)),
        ("crop4", Augment(crop_padding=4)),
        ("flip,crop4", Augment(flip=True, crop_padding=4)),
        ("crop12, flip", Augment(flip=True, crop_padding=12)),
        ("alternating_flip,shift2", Augment(alternating_flip=True, shift=2)),
        ("shift1", Augment(shift=1)),
        ("resized_crop", Augment(resized_crop=0.08)),
        ("resized_crop0.35,flip", Augment(flip=True, resized_crop=0.35)),
        ("jitter0.4, hue.1", Augment(recolouring=Recolouring(jitter=0.4, hue=0.1))),
        ("randaugment2x9", Augment(recolouring=Recolouring(operations=2, magnitude=9))),
        ("erase1,cutout8", Augment(erase=1.0, cutout=8)),
    ],
)
def test_parses_the_names(text: str, expected: Augment) -> None:
    assert Augment.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "flop", "crop", "crop0", "crop-1", "none,flip", "flip,flip", "crop1,crop2", "flip,"),
        *("shift0", "shift1,crop1", "flip,alternating_flip", "shift1,shift1", "alternating_flip,shift"),
        *(
            "resized_crop0",
            "resized_crop2",
            "resized_crop,crop1",
            "jitter",
            "hue0.6",
            "hue0.1,hue0.2",
            "erase-1",
        ),
        *(
            "randaugment2",
            "randaugment9x9",
            "randaugment2x31",
            "cutout",
            "cutout0",
            "jitter1e-3",
            "jitter.",
            "erase0",
        ),
    ],
)
def test_refuses_other_names(text: str) -> None:
    with pytest.raises(
        UserError,
        match=f'augment: got "{text}"; must be "none", or words joined by commas, .*flip or alternating_flip',
    ):
        Augment.parse(text)


def test_refuses_features_and_too_much_padding() -> None:
    with pytest.raises(UserError, match=r"samples have shape \(429,\); must be images"):
        Augment(flip=True).check((429,))
    with pytest.raises(UserError, match=r"crop8 of \(3, 8, 9\); must be under 8"):
        Augment(crop_padding=8).check((3, 8, 9))
    Augment(crop_padding=7).check((3, 8, 9))
    with pytest.raises(UserError, match=r"shift6 of \(1, 7, 6\); must be under 6"):
        Augment(shift=6).check((1, 7, 6))
    Augment(shift=5).check((1, 7, 6))
    with pytest.raises(UserError, match=r"cutout6 of \(1, 7, 6\); must be under 6"):
        Augment(cutout=6).check((1, 7, 6))


def test_the_first_word_flips_and_the_next_two_move() -> None:
    x = image(2, 5, 6)
    for sample in range(40):
        coin, down, right = random_words(Stream.AUGMENT, 3, seed=9, counter=(sample, 4)).tolist()
        flipped = x[:, :, ::-1] if coin % 2 else x
        padded = np.pad(flipped, ((0, 0), (2, 2), (2, 2)))
        i, j = down % 5, right % 5
        got = augmented(Augment(flip=True, crop_padding=2), x, sample=sample, epoch=4, seed=9)
        np.testing.assert_array_equal(got, padded[:, i : i + 5, j : j + 6])


@pytest.mark.parametrize("shift", [1, 4])
def test_shifts_are_the_crops_of_the_reflected_image_and_all_occur(shift: int) -> None:
    x = image(2, 6, 5)
    padded = np.pad(x, ((0, 0), (shift, shift), (shift, shift)), mode="reflect")
    places = range(2 * shift + 1)
    expected = {padded[:, i : i + 6, j : j + 5].tobytes() for i in places for j in places}
    got = {augmented(Augment(shift=shift), x, sample=sample).tobytes() for sample in range(1500)}
    assert got == expected


def test_an_alternating_flip_turns_each_image_every_other_epoch() -> None:
    x = image(1, 2, 3)
    first = []
    for sample in range(400):
        turned = [
            augmented(Augment(alternating_flip=True), x, sample=sample, epoch=epoch).tobytes() != x.tobytes()
            for epoch in range(5)
        ]
        assert turned[1:] == [not before for before in turned[:-1]]
        first.append(turned[0])
    assert 150 < sum(first) < 250


def test_an_alternating_flip_begins_as_a_flip_does() -> None:
    x = image(1, 2, 3)
    for sample in range(20):
        alternating, plain = (
            augmented(augment, x, sample=sample)
            for augment in (Augment(alternating_flip=True), Augment(flip=True))
        )
        np.testing.assert_array_equal(alternating, plain)
