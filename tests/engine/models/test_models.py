"""Networks by name, and functions of the user's own."""

import pytest

from engine.config.errors import UserError
from engine.models import MODELS, build_model, follows_classes


@pytest.mark.parametrize("name", MODELS)
def test_every_model_has_the_outputs_that_are_asked_for(name):
    assert build_model(name, {"classes": 7}).output_shape == (7,)
    assert follows_classes(name, {})
    assert not follows_classes(name, {"classes": 7})


@pytest.mark.parametrize(
    ("name", "image"), [("vgg_a", [3, 64, 64]), ("digits", [1, 28, 28]), ("cifar10", [1, 16, 16])]
)
def test_a_model_takes_other_images(name, image):
    assert build_model(name, {"image": image}).input_shape == tuple(image)


def test_arguments_and_names_are_checked():
    with pytest.raises(UserError, match=r'model: got "vga_a" \(did you mean "vgg_a"\?\); must be one of'):
        build_model("vga_a")
    with pytest.raises(
        UserError, match=r"model: digits takes no argument width; must be one of classes, image"
    ):
        build_model("digits", {"width": 3})
    with pytest.raises(UserError, match=r"model: digits: .*a 2x2|model: digits: .*window"):
        build_model("digits", {"image": [1, 1, 1]})


@pytest.mark.parametrize(
    "arguments", [{"classes": 2.5}, {"classes": 0}, {"classes": True}, {"classes": "ten"}]
)
def test_a_number_of_classes_is_a_whole_number(arguments):
    with pytest.raises(UserError, match=r"^model: classes: got .*; must be a whole number of at least 1$"):
        build_model("digits", arguments)


@pytest.mark.parametrize("image", ["abc", [1, 8], [1, 8, 0], [1, 8.0, 8], 8])
def test_an_image_has_three_sizes(image):
    with pytest.raises(UserError, match=r"^model: image: got .*; must be channels, rows and columns"):
        build_model("digits", {"image": image})


@pytest.mark.parametrize("name", ["vgg_a", "vgg_d", "vgg_e"])
@pytest.mark.parametrize("norm", ["off", "False", 0, 1, [True]])
def test_whether_vgg_has_norms_is_true_or_false(name, norm):
    with pytest.raises(UserError, match=r"^model: norm: got .*; must be true or false$"):
        build_model(name, {"norm": norm})


def test_what_a_function_returns_must_be_a_network(tmp_path):
    file = tmp_path / "odd.py"
    file.write_text(
        "from lockstep import Conv2d, GraphBuilder, Linear\n\n"
        "def number():\n    return 3\n\n"
        "def image():\n    net = GraphBuilder((1, 4, 4))\n    net.add('conv', Conv2d(2, 3))\n"
        "    return net.graph()\n\n"
        "def half():\n    net = GraphBuilder((8,))\n    net.add('fc', Linear(1.5))\n    return net.graph()\n"
    )
    with pytest.raises(UserError, match=r"half: fc: out_features is 1\.5; must be a whole number"):
        build_model(f"{file}:half")
    with pytest.raises(UserError, match="returned int; must return a Graph"):
        build_model(f"{file}:number")
    with pytest.raises(UserError, match=r"ends with values of shape \(2, 2, 2\); must end with a vector"):
        build_model(f"{file}:image")
