"""The settings of a rank that a recipe implies."""

from engine.config.recipe import OptimizerFields, Recipe
from engine.training.rank_parameters import BUCKET_FLOATS
from engine.training.rank_settings import RankSettings, settings_of
from engine.training.update import UpdateForm
from tests.engine.cluster import RECIPE, changed


def test_the_recipe_decides_everything_but_the_threads():
    recipe = changed(RECIPE, batch=48, conv="direct", conv_feature_leaves=2, fuse=False, bucket_kib=1)
    assert settings_of(recipe, 3) == RankSettings(48, 3, "direct", 2, fuse=False, bucket_floats=256)


def test_the_recipe_decides_the_form_of_the_update():
    optimizer = OptimizerFields("lamb", decay_exempt=("*.bias",), clip_norm=2.0)
    settings = settings_of(changed(RECIPE, optimizer=optimizer, ema=0.9, label_smoothing=0.1), 1)
    assert settings.form == UpdateForm(
        ("exp_avg", "exp_avg_sq"), per_tensor=True, holds_back=True, averages=True
    )
    assert (settings.decay_exempt, settings.clip_norm) == (("*.bias",), 2.0)
    assert (settings.ema, settings.label_smoothing) == (0.9, 0.1)


def test_the_defaults_of_recipe_and_rank_are_the_same():
    default = settings_of(Recipe(), 1)
    assert default == RankSettings(default.batch, 1)
    assert default.bucket_floats == BUCKET_FLOATS
