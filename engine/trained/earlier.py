"""What checkpoints of earlier versions leave unsaid, as far as it follows from what they say."""

from engine.config.recipe import Recipe
from engine.data.preprocessing import AS_STORED, COVER, Preprocessing
from engine.data.readers.digits import WHITE
from engine.data.readers.normalise import Normalisation

_GREY_WHITE = {"digits": WHITE}
"""What counts as white in data that has no 8 bits."""
_SIZES = {"images": COVER, "digits": AS_STORED, "mnist": AS_STORED, "cifar10": AS_STORED}


def preprocessing_before(
    recipe: Recipe, sample_shape: tuple[int, ...], normalisation: Normalisation | None
) -> Preprocessing:
    """Return what data that comes with the engine did to its samples; of a user's own the shape alone."""
    size = _SIZES.get(recipe.data_kind)
    if normalisation is None or size is None:
        return Preprocessing(sample_shape)
    white = _GREY_WHITE.get(recipe.data_kind, 255)
    deviation = [1 / (white * float(scale)) for scale in normalisation.scale.ravel()]
    mean = [-float(shift) * each for shift, each in zip(normalisation.shift.ravel(), deviation, strict=True)]
    published = Normalisation.of(
        mean=[round(each, 5) for each in mean], std=[round(each, 5) for each in deviation], white=white
    )
    return published.preprocessing(sample_shape, size=size, upright="EXIF" if size == COVER else "")
