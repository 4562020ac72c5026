"""The settings of a rank that a recipe implies."""

from engine.config.recipe import Recipe
from engine.training.rank_parameters import BUCKET_FLOATS
from engine.training.rank_settings import RankSettings, settings_of
from tests.engine.cluster import RECIPE, changed


def test_the_recipe_decides_everything_but_the_threads():
    recipe = changed(RECIPE, batch=48, conv="direct", conv_feature_leaves=2, fuse=False, bucket_kib=1)
    assert settings_of(recipe, 3) == RankSettings(48, 3, "direct", 2, fuse=False, bucket_floats=256)


def test_the_defaults_of_recipe_and_rank_are_the_same():
    default = settings_of(Recipe(), 1)
    assert default == RankSettings(default.batch, 1)
    assert default.bucket_floats == BUCKET_FLOATS
