"""Names of tensors between networks."""

import pytest

from engine.config.errors import UserError
from engine.formats.names import (
    fitting_names,
    names_by_order,
    own_names,
    read_names,
    shipped,
    tensor_shapes,
)
from engine.models import build_model
from tests.engine.formats.networks import with_state

OURS = {
    "a.weight": (3, 2),
    "a.bias": (3,),
    "b.weight": (3, 3),
    "b.bias": (3,),
    "c.weight": (3, 3),
    "c.bias": (3,),
}
VGG11 = (0, 3, 6, 8, 11, 13, 16, 18)
"""Places of the convolutions in torchvision's vgg11.features."""


def renamed(places, shapes=OURS):
    return {
        f"{places[name.partition('.')[0]]}.{name.partition('.')[2]}": shape for name, shape in shapes.items()
    }


def test_parameters_and_states_stand_in_the_order_of_the_nodes():
    assert tensor_shapes(with_state()) == {
        "scale1.scale": (5,), "scale1.mean": (5,), "fc2.weight": (3, 80), "fc2.bias": (3,),
    }  # fmt: skip


OF_TABLE = {
    "efficientnet_lite_pytorch:lite0": ("efficientnet_lite0", {}),
    "torchvision:alexnet": ("alexnet", {}),
    "torchvision:resnet18": ("resnet18", {}),
    "torchvision:resnet34": ("resnet34", {}),
    "torchvision:resnet50": ("resnet50", {}),
    "torchvision:resnet101": ("resnet101", {}),
    "torchvision:vgg11": ("vgg_a", {}),
    "torchvision:vgg11_bn": ("vgg_a", {"norm": True}),
    "torchvision:vgg16": ("vgg_d", {}),
    "torchvision:vgg16_bn": ("vgg_d", {"norm": True}),
    "torchvision:vgg19": ("vgg_e", {}),
    "torchvision:vgg19_bn": ("vgg_e", {"norm": True}),
}


@pytest.mark.parametrize("table", shipped())
def test_a_shipped_table_names_each_tensor_of_its_network(table):
    model, arguments = OF_TABLE[table]
    ours = tensor_shapes(build_model(model, arguments))
    assert set(read_names(table, ours).theirs) == set(ours)


def test_the_tables_of_residual_networks_follow_torchvisions_modules():
    names = read_names("torchvision:resnet50", tensor_shapes(build_model("resnet50"))).theirs
    assert names["norm1.running_var"] == "bn1.running_var"
    assert names["conv2_1_3.weight"] == "layer1.0.conv3.weight"
    assert names["conv4_1_shortcut.weight"] == "layer3.0.downsample.0.weight"
    assert names["norm5_3_2.bias"] == "layer4.2.bn2.bias"


def test_vgg_a_has_the_names_of_torchvisions_vgg11():
    names = read_names("torchvision:vgg11", tensor_shapes(build_model("vgg_a"))).theirs
    modules = [f"features.{place}" for place in VGG11] + [f"classifier.{place}" for place in (0, 3, 6)]
    assert list(names.values()) == [f"{name}.{leaf}" for name in modules for leaf in ("weight", "bias")]
    assert names["conv1_1.weight"] == "features.0.weight"
    assert names["fc8.bias"] == "classifier.6.bias"


def test_a_table_names_modules_or_single_tensors(tmp_path):
    table = tmp_path / "names.toml"
    table.write_text('"scale1.scale" = "bn.weight"\nscale1.mean = "bn.running_mean"\nfc2 = "head"\n')
    assert read_names(str(table), tensor_shapes(with_state())).theirs == {
        "scale1.scale": "bn.weight",
        "scale1.mean": "bn.running_mean",
        "fc2.weight": "head.weight",
        "fc2.bias": "head.bias",
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('a = "x"\nb = "y"', "has no name for c; must name all that has weights"),
        ('a = "x"\ncc = "z"', r'names cc, which the network has not \(.* "c"\?\); must be one of a, b, c$'),
        ('a = "x"\nb = "x"\nc = "y"', r"gives x.weight to a.weight and b.weight; must be one each"),
        ("a = 3", r"a is int; must be a name in quotes"),
        ('a = ["x"]', r"a is list; must be a name in quotes"),
        ("a = ", "is not TOML: "),
        ("a = " + "9" * 5000, "is not TOML: "),
        (".".join("a" * 5000) + " = 1", "is not TOML: "),
        ("a = '\udcff'", "is not TOML: "),
    ],
    ids=lambda text: text[:24],
)  # fmt: skip
def test_a_table_that_does_not_fit_is_refused_in_a_line(tmp_path, text, said):
    table = tmp_path / "names.toml"
    table.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=f"^names: {table}:? {said}"):
        read_names(str(table), OURS)


def test_a_table_that_is_not_there_is_refused_with_those_there_are(tmp_path):
    with pytest.raises(
        UserError, match=r'^names: got "torchvision:alexnat" \(did you mean "torchvision:alexnet"\?\)'
    ):
        read_names("torchvision:alexnat", OURS)
    with pytest.raises(UserError, match=r"^names: .*none\.toml: cannot be read: No such file"):
        read_names(str(tmp_path / "none.toml"), OURS)


def test_modules_in_the_same_order_with_the_same_shapes_are_the_same():
    theirs = renamed({"a": "net.0", "b": "net.2", "c": "net.10"})
    names = names_by_order(OURS, theirs, "file", ordered=True)
    assert list(names.theirs.values()) == list(theirs)
    assert names.source == "order and shape in file"


def test_leaves_of_a_module_may_stand_in_another_order():
    theirs = {"x.bias": (3,), "x.weight": (3, 2)}
    ours = {"a.weight": (3, 2), "a.bias": (3,)}
    assert names_by_order(ours, theirs, "file", ordered=True).theirs == {
        "a.weight": "x.weight",
        "a.bias": "x.bias",
    }


def test_in_another_order_shapes_that_occur_once_tell():
    ours = {"a.weight": (3, 2), "b.weight": (4, 3), "c.weight": (5, 4)}
    theirs = {"z.weight": (5, 4), "y.weight": (3, 2), "x.weight": (4, 3)}
    for ordered in (True, False):
        assert names_by_order(ours, theirs, "file", ordered=ordered).theirs == {
            "a.weight": "y.weight", "b.weight": "x.weight", "c.weight": "z.weight"
        }  # fmt: skip


def test_what_is_not_clear_is_refused():
    theirs = renamed({"a": "x", "b": "y", "c": "z"})
    with pytest.raises(
        UserError, match=r"^names: which of y, z in file is b is not clear: they have weight \[3, 3\], bias"
    ):
        names_by_order(OURS, theirs, "file", ordered=False)
    swapped = dict(reversed(theirs.items()))
    with pytest.raises(UserError, match="is not clear"):
        names_by_order(OURS, swapped, "file", ordered=True)


def test_other_modules_are_refused():
    theirs = renamed({"a": "x", "b": "y", "c": "z"})
    with pytest.raises(
        UserError, match=r"^names: file has 4 modules with tensors; must be the 3 of the network"
    ):
        names_by_order(OURS, {**theirs, "w.weight": (3,)}, "file", ordered=True)
    with pytest.raises(
        UserError, match=r"^names: file has no module with weight \[3, 2\], bias \[3\], which a has"
    ):
        names_by_order(OURS, {**theirs, "x.weight": (3, 5)}, "file", ordered=True)


def test_the_names_that_fit_are_found():
    assert fitting_names(OURS, {**OURS, "more": (1,)}, "file", ordered=False) == own_names(OURS)
    vgg = tensor_shapes(build_model("vgg_a"))
    theirs = {name: vgg[ours] for ours, name in read_names("torchvision:vgg11", vgg).theirs.items()}
    assert fitting_names(vgg, theirs, "file", ordered=False).source == "torchvision:vgg11"
    others = renamed({"a": "x", "b": "y", "c": "z"})
    assert fitting_names(OURS, others, "file", ordered=True).theirs["c.bias"] == "z.bias"
    with pytest.raises(UserError, match=r"is not clear: .*; or give a table of names: --names FILE.toml$"):
        fitting_names(OURS, others, "file", ordered=False)
