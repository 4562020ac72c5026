"""Recipes: reading, checking, overriding, and what a mistake in one says."""

import pytest

from engine.config.errors import UserError
from engine.config.recipe import Recipe, ScheduleFields, override, parse_recipe, read_recipe, shipped
from engine.models import MODELS


@pytest.mark.parametrize("name", shipped())
def test_shipped_recipes_are_complete(name):
    recipe = read_recipe(name)
    recipe.check(MODELS)
    assert parse_recipe(recipe.to_toml(), name) == recipe


def test_the_shipped_recipes_are_those_of_the_paper_and_small_ones():
    assert shipped() == [
        *(
            "cd_dnn",
            "cifar10",
            "cifar10_94",
            "digits",
            "fashion_mnist",
            "googlenet",
            "mnist",
            "overfeat_fast",
        ),
        *("resnet50", "speech_digits", "vgg_a", "vgg_a_imagenet"),
    ]


def test_a_recipe_survives_the_way_through_toml():
    recipe = override(
        Recipe(epochs=3, data='images:C:\\some "folder"'),
        {"schedule.milestones": (1.0, 2.5), "optimizer.nesterov": True, "schedule.rate": 1e-5},
    )
    assert parse_recipe(recipe.to_toml(), "copy") == recipe


@pytest.mark.parametrize(
    "folder", ["a\nb", "tab\t", "back\\slash", 'quo"te', "é 深 \U0001f600", "\x01\x7f\x80\r\n"]
)
def test_any_text_survives_the_way_through_toml(folder):
    recipe = Recipe(epochs=3, data=f"images:{folder}")
    assert parse_recipe(recipe.to_toml(), "copy") == recipe


def test_the_saved_recipe_does_not_say_where_the_run_was_written():
    assert parse_recipe(Recipe(epochs=3, out="/some/where").to_toml(), "copy") == Recipe(epochs=3)


def test_the_saved_recipe_does_not_say_where_the_trace_was_written():
    recipe = Recipe(epochs=3, trace="trace.json")
    assert parse_recipe(recipe.to_toml(), "copy") == Recipe(epochs=3)
    assert "trace" in Recipe.NOT_IN_THE_BITS


def test_a_name_that_no_file_can_have_is_refused():
    with pytest.raises(UserError, match=r"^recipe: x{300}: File name too long"):
        read_recipe("x" * 300)


def test_a_recipe_file_is_read_by_path(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('model = "digits"\nepochs = 2\n[schedule]\nrate = 1\n')
    recipe = read_recipe(str(path))
    assert recipe.epochs == 2
    assert recipe.schedule.rate == 1.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batch = ", r"^r\.toml: is not TOML: Invalid value"),
        ("bacth = 3", r'^r\.toml: unknown field "bacth" \(did you mean "batch"\?\); must be one of model, '),
        ("[optimizer]\nmomentun = 1", r'unknown field "optimizer\.momentun" \(did you mean "momentum"\?\)'),
        ('batch = "64"', r"^r\.toml: batch: got '64'; must be a whole number"),
        ("batch = 6.5", r"batch: got 6\.5; must be a whole number"),
        ("overlap = 1", r"overlap: got 1; must be true or false"),
        ("schedule = 3", r"schedule must be a table, got 3"),
        (
            "class_weights = 2",
            r"^r\.toml: class_weights: got 2; must be one of none, balanced, or a list of num",
        ),
        ("class_weights = [1, 'x']", r"^r\.toml: class_weights: got \[1, 'x'\]; must be a list of numbers"),
        (
            "sampling = true",
            r"^r\.toml: sampling: got True; must be one of shuffled, balanced, or a list of num",
        ),
        ("class_wieghts = [1]", r'unknown field "class_wieghts" \(did you mean "class_weights"\?\)'),
        ("[schedule]\nmilestones = [1, 'x']", r"schedule\.milestones: .*must be a list of numbers"),
    ],
)
def test_a_mistake_in_the_text_says_where_and_what_is_allowed(text, message):
    with pytest.raises(UserError, match=message) as error:
        parse_recipe(text, "r.toml")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "vgg-a"}, r'^model: got "vgg-a" \(did you mean "vgg_a"\?\); must be one of'),
        ({"schedule.kind": "cosin"}, r'^schedule\.kind: got "cosin" \(did you mean "cosine"\?\)'),
        ({"conv": "dirct"}, r'^conv: got "dirct" \(did you mean "direct"\?\); must be one of auto, direct'),
        ({"leaves": 12}, r"^leaves: got 12; must be a power of two"),
        ({"leaves": 0}, r"^leaves: got 0; must be a power of two"),
        ({"conv_feature_leaves": 3}, r"^conv_feature_leaves: got 3; must be a power of two up to 1024"),
        ({"conv_feature_leaves": 0}, r"^conv_feature_leaves: got 0; must be a power of two"),
        ({"conv_feature_leaves": 2048}, r"^conv_feature_leaves: got 2048; must be a power of two up to 1024"),
        ({"batch": 60}, r"^batch: got 60; must be a multiple of leaves = 16"),
        ({"batch": 0}, r"^batch: got 0; must be a multiple of leaves"),
        ({"epochs": 0}, r"^epochs, steps: got 0 and 0; exactly one must be at least 1"),
        ({"steps": 5}, r"^epochs, steps: got 2 and 5; exactly one"),
        ({"seed": -1}, r"^seed: got -1; must be at least 0"),
        ({"threads": -2}, r"^threads: got -2; must be at least 0"),
        ({"optimizer.momentum": 1.0}, r"^optimizer\.momentum: got 1\.0; must be at least 0 and below 1"),
        ({"threads": 1_000_000}, r"^threads: got 1000000; must be at least 0 and at most 1024"),
        ({"epochs": 0, "steps": 10**20}, r"^steps: got 1\d+; must be at least 0 and at most 1099511627775"),
        ({"seed": 2**63}, r"^seed: got \d+; must be at least 0 and at most \d+807"),
        ({"schedule.rate": float("nan")}, r"^schedule\.rate: got nan; must be at least 0 and below 1e\+30"),
        ({"schedule.rate": float("inf")}, r"^schedule\.rate: got inf"),
        ({"schedule.rate": 1e39}, r"^schedule\.rate: got 1e\+39"),
        ({"schedule.factor": float("inf")}, r"^schedule\.factor: got inf; must be at least 0 and below 10"),
        ({"schedule.warmup_epochs": float("inf")}, r"^schedule\.warmup_epochs: got inf"),
        ({"schedule.milestones": (1.0, float("nan"))}, r"^schedule\.milestones: got nan"),
        ({"schedule.milestones": (-1.0,)}, r"^schedule\.milestones: got -1\.0; must be at least 0"),
        ({"optimizer.weight_decay": float("inf")}, r"^optimizer\.weight_decay: got inf"),
        (
            {"optimizer.kind": "adam"},
            r'^optimizer\.kind: got "adam" \(did you mean "adamw"\?\); must be .*sgd, adamw, lars, lamb',
        ),
        ({"optimizer.betas": (0.9,)}, r"^optimizer\.betas: got \[0\.9\]; must be two numbers"),
        ({"optimizer.betas": (0.9, 1.0)}, r"^optimizer\.betas: got 1\.0; must be at least 0 and below 1"),
        (
            {"schedule.kind": "one_cycle", "schedule.peak_epochs": 9.0, "epochs": 4, "steps": 0},
            r"^schedule\.peak_epochs: got 9\.0 in a run of epochs = 4; must be at most 4",
        ),
        (
            {"optimizer.kind": "adamw", "optimizer.nesterov": True},
            r'^optimizer\.nesterov: got true with kind = "adamw"; must be false',
        ),
        (
            {"optimizer.kind": "lars", "optimizer.nesterov": True},
            r'^optimizer\.nesterov: got true with kind = "lars"; must be false',
        ),
        ({"optimizer.eps": 1e-40}, r"^optimizer\.eps: got 1e-40; must be 0, or at least 1e-30"),
        ({"optimizer.clip_norm": 1e-40}, r"^optimizer\.clip_norm: got 1e-40; must be 0, or at least 1e-30"),
        ({"optimizer.clip_norm": -1.0}, r"^optimizer\.clip_norm: got -1\.0; must be at least 0"),
        (
            {"optimizer.trust_coefficient": 0.0},
            r"^optimizer\.trust_coefficient: got 0\.0; must be more than 0",
        ),
        ({"ema": 1.0}, r"^ema: got 1\.0; must be at least 0 and below 1"),
        ({"label_smoothing": -0.1}, r"^label_smoothing: got -0\.1; must be at least 0 and below 1"),
        (
            {"class_weights": "balancd"},
            r'^class_weights: got "balancd" \(did you mean "balanced"\?\); must be one of none, balanced, or '
            "a list of numbers$",
        ),
        ({"class_weights": (1.0, -2.0)}, r"^class_weights: got -2\.0; must be at least 0 and below 1e\+30$"),
        ({"class_weights": [1, float("nan")]}, r"^class_weights: got nan; must be at least 0"),
        ({"class_weights": (float("inf"),)}, r"^class_weights: got inf; must be at least 0"),
        ({"class_weights": (1, True)}, r"^class_weights: got True; must be a number"),
        (
            {"class_weights": {"a": 1}},
            r"^class_weights: got {'a': 1}; must be one of none, balanced, or a list",
        ),
        (
            {"sampling": "weighted"},
            r'^sampling: got "weighted"; must be one of shuffled, balanced, or a list',
        ),
        ({"sampling": (-1.0,)}, r"^sampling: got -1\.0; must be at least 0"),
        ({"schedule.power": 0}, r"^schedule\.power: got 0; must be at least 1 and at most 100"),
        ({"schedule.start": 1.5}, r"^schedule\.start: got 1\.5; must be at least 0 and at most 1"),
        ({"schedule.end": -0.1}, r"^schedule\.end: got -0\.1; must be at least 0 and below 1e\+30"),
        ({"schedule.end": 1.1}, r'^schedule\.end: got 1\.1 with kind = "constant"; must be at most 1$'),
        (
            {"schedule.kind": "exponential"},
            r'^schedule\.end: got 0\.0 with kind = "exponential"; must be at least 1e-30$',
        ),
        (
            {"schedule.kind": "exponential", "schedule.rate": 1e10, "schedule.end": 1e20},
            r"^schedule\.end: got 1e\+20 with rate = 10000000000\.0; the last rate must be below 1e\+30$",
        ),
    ],
)
def test_a_value_out_of_range_says_what_is_allowed(changes, message):
    with pytest.raises(UserError, match=message):
        override(Recipe(epochs=2), changes).check(MODELS)


def test_an_unknown_recipe_lists_the_shipped_ones():
    with pytest.raises(
        UserError, match=r'^recipe: got "digit" \(did you mean "digits"\?\); must be one of cd_dnn'
    ):
        read_recipe("digit")


def test_a_missing_recipe_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.toml: cannot be read: No such file"):
        read_recipe(str(tmp_path / "none.toml"))


def test_a_binary_recipe_file_is_refused(tmp_path):
    path = tmp_path / "noise.toml"
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(UserError, match="is not a text file"):
        read_recipe(str(path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chunk_kib": 0}, r"^chunk_kib: got 0; must be at least 1 and at most 1048576$"),
        ({"chunk_kib": -1}, r"^chunk_kib: got -1; must be at least 1 and at most 1048576$"),
        ({"bucket_kib": 1 << 21}, r"^bucket_kib: got 2097152; must be at least 0 and at most 1048576$"),
    ],
)
def test_sizes_of_messages_out_of_range_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        Recipe(epochs=1, **change).check(MODELS)
    assert set(change) <= set(Recipe.NOT_IN_THE_BITS)


@pytest.mark.parametrize("weights", ["none", "balanced", (1.0, 0.0, 2.5)])
def test_weights_of_classes_survive_the_way_through_toml(weights):
    recipe = Recipe(
        epochs=1, class_weights=weights, sampling="balanced" if weights == "none" else weights[:8]
    )
    recipe.check(MODELS)
    assert parse_recipe(recipe.to_toml(), "copy") == recipe


OWN = {"width": 0.5, "layers": [1, 2], "act": "relu", "bias": True}


@pytest.mark.parametrize("field", ["model", "data"])
def test_functions_of_ones_own_and_their_arguments_survive_the_way_through_toml(field):
    for arguments in ({}, OWN):
        recipe = Recipe(epochs=1, **{field: "my/net.py:make", f"{field}_arguments": arguments})
        recipe.check(MODELS)
        text = recipe.to_toml()
        assert parse_recipe(text, "copy") == recipe
        assert (f'{field} = "my/net.py:make"\n' in text) == (not arguments)
        assert (f'[{field}]\nname = "my/net.py:make"\n' in text) == bool(arguments)


@pytest.mark.parametrize("name", ["net.py", "net.py:", "net.py:3x", "net:make"])
def test_what_is_no_function_in_a_file_is_no_model(name):
    with pytest.raises(UserError, match=r"must be one of digits, .*, or FILE\.py:function$"):
        Recipe(epochs=1, model=name).check(MODELS)


@pytest.mark.parametrize(
    ("data", "kind"),
    [("digits", "digits"), ("images:/a:b", "images"), ("a/b.py:make", "a/b.py:make"), ("b.py", "b.py")],
)
def test_the_kind_of_data_has_no_folder(data, kind):
    assert Recipe(data=data).data_kind == kind


def test_arguments_belong_to_what_they_were_given_for():
    recipe = Recipe(model="net.py:make", model_arguments=OWN, data="set.py:make", data_arguments={"a": 1})
    assert override(recipe, {"model_arguments.width": 2}).model_arguments == OWN | {"width": 2}
    assert override(recipe, {"model": "net.py:make"}).model_arguments == OWN
    other = override(recipe, {"model": "digits", "model_arguments.width": 2, "data": "digits"})
    assert (other.model_arguments, other.data_arguments) == ({"width": 2}, {})


def test_fields_that_change_no_bit_or_may_differ_between_ranks_are_these():
    assert set(Recipe.NOT_IN_THE_BITS) == {
        "fuse", "overlap", "threads", "evaluate_every", "checkpoint_every", "checkpoint_steps", "out",
        "trace", "plan", "cluster", "bucket_kib", "chunk_kib", "shared_memory", "keep_checkpoints",
        "keep_best", "stop_after", "accumulate", "hash_every", "verify_every", "buddies", "buddy_every",
        "lost_after", "stalled_after", "on_nan", "data_threads", "on_bad_sample",
        "track",
    }  # fmt: skip
    assert set(Recipe.MAY_DIFFER) == {
        *("data", "out", "overlap", "threads", "data_threads", "cluster", "init", "track"),
    }


def test_a_value_of_a_wrong_type_in_python_is_refused():
    with pytest.raises(UserError, match=r"^batch: got '64'; must be a whole number$"):
        Recipe(epochs=1, batch="64").check(MODELS)


@pytest.mark.parametrize(
    ("written", "metric"),
    [("true", "test_accuracy"), ("false", ""), ('"off"', ""), ('"none"', ""), ('"test_loss"', "test_loss"),
     ('"on"', "test_accuracy")],
)  # fmt: skip
def test_what_earlier_versions_wrote_of_the_best_is_read(written, metric):
    recipe = parse_recipe(f"epochs = 1\nkeep_best = {written}", "old")
    recipe.check(MODELS)
    assert recipe.metric == metric
    assert recipe.keeps_best == bool(metric)
    assert parse_recipe(recipe.to_toml(), "copy") == recipe


def test_switches_of_earlier_versions_are_taken_from_options_and_python_too():
    assert override(Recipe(), {"keep_best": "on"}).keep_best == "test_accuracy"
    assert Recipe(keep_best=True).keep_best == "test_accuracy"
    assert Recipe(keep_best=False) == Recipe()
    assert Recipe(stop_after=2).metric == "test_accuracy"


def test_patterns_survive_the_way_through_toml_in_their_order():
    recipe = Recipe(
        epochs=1, freeze=("conv*", "fc[12]"), schedule=ScheduleFields(rates={"b*": 0.5, "a": 2.0})
    )
    again = parse_recipe(recipe.to_toml(), "copy")
    assert again == recipe
    assert list(again.schedule.rates) == ["b*", "a"]
