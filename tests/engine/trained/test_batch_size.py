"""The batch of a network that nobody has given one."""

from lockstep import GraphBuilder, Linear

from engine.models import build_model
from engine.trained.batch_size import LEAST, MOST, filling_batch


def test_small_networks_get_large_batches_and_large_ones_no_more_memory():
    batches = {name: filling_batch(build_model(name)) for name in ("digits", "cifar10", "vgg_a")}
    assert batches == {"digits": MOST, "cifar10": 128, "vgg_a": LEAST}


def test_the_values_of_a_batch_take_no_more_than_128_mib_where_it_is_not_the_least():
    for outputs in (1 << 10, 1 << 16, 1 << 17, 1 << 18, 1 << 20):
        net = GraphBuilder((8,))
        net.add("fc", Linear(outputs, gain=1.0))
        batch = filling_batch(net.graph())
        assert batch in (32, 64, 128, 256)
        assert batch == 32 or batch * (8 + outputs) * 4 <= 1 << 27
        assert batch == 256 or 2 * batch * (8 + outputs) * 4 > 1 << 27
