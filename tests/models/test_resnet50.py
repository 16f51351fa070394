import dataclasses

import jax
import jax.numpy as jnp
import pytest

from cwf_jax.models import parameters, registry
from cwf_jax.models.resnet50 import ResNet50Config
from tests.models import peers

SIZE = (64, 96)


def test_it_equals_torchvisions_structure_in_pytorch(tmp_path):
  pytest.importorskip("torch", reason="torch is in the extra `peers`")
  from tests.models.torch_networks import ResNet

  module, pixels = peers.randomize_torch(ResNet(), linear_gain=0.2), peers.draw_pixels(*SIZE)
  network = peers.convert_torch(module, "resnet50", tmp_path)
  assert network.config == ResNet50Config.torchvision()
  peers.assert_parity("ResNet-50 beside PyTorch", network, pixels, peers.run_torch(module, pixels))


def test_it_equals_keras(tmp_path):
  keras = peers.load_keras()
  model = keras.applications.ResNet50(weights=None, input_shape=(*SIZE, 3))
  peers.randomize_keras(model, linear_gain=0.2)
  config, pixels = ResNet50Config.keras(), peers.draw_pixels(*SIZE)
  network = peers.convert_keras(model, "resnet50", tmp_path)
  assert network.config == config
  names = {"conv1": "conv1_relu", "pool1": "pool1_pool"}
  for block in config.blocks:
    stage, position = map(int, block.name.removeprefix("layer").split("_"))
    start = f"conv{stage + 1}_block{position + 1}"
    names |= {f"{block.name}_conv1": f"{start}_1_relu", f"{block.name}_conv2": f"{start}_2_relu", block.name: f"{start}_out"}
  peers.assert_parity("ResNet-50 beside Keras", network, pixels, peers.run_keras(model, names, pixels))
  peers.assert_same(network, peers.convert_keras(model, "resnet50", tmp_path, "peer.h5"))


@pytest.fixture(scope="module", params=["keras", "torchvision"])
def narrow(request):
  """All four stages, narrow, with biases."""
  published = getattr(ResNet50Config, request.param)()
  config = dataclasses.replace(published, conv1_channels=4, widths=(2, 4, 4, 8), depths=(1, 2, 2, 1), num_classes=10)
  return peers.draw_network("resnet50", config)


@pytest.mark.parametrize("size", [(32, 32), (64, 96), (96, 32)])
def test_a_padded_image_gives_what_the_image_gives(narrow, size):
  peers.assert_padding_is_ignored("ResNet-50", narrow, size, (96, 128))


def test_the_benchmarks_peer_is_the_same_network(narrow):
  peers.assert_benchmark_equals("ResNet-50: the benchmark's peer", narrow, (32, 64))


def test_every_tap_has_its_stride(narrow):
  output = jax.eval_shape(peers.forward, narrow, jnp.zeros((1, 64, 96, 3)), jnp.array([[64, 96]]))
  strides = {name: 64 // values.shape[1] for name, values in output.taps.items()}
  halved_first = 2 if narrow.config.stride_in_1x1 else 1
  expected = {"conv1": 2, "pool1": 4, "layer1_0": 4, "layer2_0_conv1": 4 * halved_first, "layer2_0_conv2": 8, "layer3_1": 16}
  expected |= {"layer4_0_conv1": 16 * halved_first, "layer4_0_conv2": 32, "layer4_0": 32}
  assert {name: strides[name] for name in expected} == expected
  assert output.taps[narrow.config.feature_tap].shape == (1, 4, 6, narrow.config.feature_channels)


def test_it_has_the_published_number_of_parameters():
  """torchvision counts 25,557,032: of a batch norm's factor and offset, folding leaves the offset."""
  for config in (ResNet50Config.torchvision(), ResNet50Config.keras()):
    shapes = parameters.list_parameters(registry.build_abstract("resnet50", config))
    factors = sum(leaf.size for path, leaf in shapes.items() if path.endswith("bias") and path != "classifier/bias")
    assert sum(leaf.size for leaf in shapes.values()) + factors == 25_557_032
    assert (config.feature_tap, config.feature_channels, config.last_tap) == ("layer3_5", 1024, "layer4_2")
    assert registry.name_network(registry.build_abstract("resnet50", config)) == "resnet50"
