import jax
import jax.numpy as jnp
import pytest

from cwf_jax.models import parameters, registry
from cwf_jax.models.densenet import DenseNetConfig
from tests.models import peers

SIZE = (64, 96)


def _activation_in_keras(tap):
  """The name of the Keras layer that returns our tap: "conv3_block4_1_relu" of "block2_3_conv1"."""
  if tap in ("conv1", "pool1", "norm5"):
    return {"conv1": "conv1_relu", "pool1": "pool1", "norm5": "relu"}[tap]
  block, *layer, part = tap.split("_")
  number = int(block[-1]) + 1
  if not layer:
    return f"pool{number}_relu"
  return f"conv{number}_block{int(layer[0]) + 1}_{1 if part == 'conv1' else 0}_relu"


@pytest.mark.parametrize("name", ["densenet121", pytest.param("densenet161", marks=pytest.mark.long)])
def test_it_equals_torchvisions_structure_in_pytorch(name, tmp_path):
  pytest.importorskip("torch", reason="torch is in the extra `peers`")
  from tests.models.torch_networks import DenseNet

  module = DenseNet() if name == "densenet121" else DenseNet.densenet161()
  peers.randomize_torch(module, linear_gain=8.0)
  pixels = peers.draw_pixels(*SIZE)
  network = peers.convert_torch(module, name, tmp_path)
  title = f"DenseNet-{name[-3:]} beside PyTorch"
  peers.assert_parity(title, network, pixels, peers.run_torch(module, pixels))


def test_it_equals_keras(tmp_path):
  keras = peers.load_keras()
  model = keras.applications.DenseNet121(weights=None, input_shape=(*SIZE, 3))
  peers.randomize_keras(model, linear_gain=8.0)
  network, pixels = peers.convert_keras(model, "densenet121", tmp_path), peers.draw_pixels(*SIZE)
  names = {tap: _activation_in_keras(tap) for tap in network.config.tap_names}
  peers.assert_parity("DenseNet-121 beside Keras", network, pixels, peers.run_keras(model, names, pixels))
  peers.assert_same(network, peers.convert_keras(model, "densenet121", tmp_path, "peer.h5"))


@pytest.fixture(scope="module")
def narrow():
  """All four blocks, with offsets."""
  return peers.draw_network("densenet121", DenseNetConfig(growth=4, depths=(1, 2, 2, 2), conv1_channels=6, num_classes=10))


@pytest.mark.parametrize("size", [(32, 32), (64, 96), (96, 32)])
def test_a_padded_image_gives_what_the_image_gives(narrow, size):
  peers.assert_padding_is_ignored("DenseNet", narrow, size, (96, 128))


def test_the_benchmarks_peer_is_the_same_network(narrow):
  peers.assert_benchmark_equals("DenseNet: the benchmark's peer", narrow, (32, 64))


def test_every_tap_has_its_stride(narrow):
  output = jax.eval_shape(peers.forward, narrow, jnp.zeros((1, 64, 96, 3)), jnp.array([[64, 96]]))
  strides = {name: 64 // values.shape[1] for name, values in output.taps.items()}
  expected = {"conv1": 2, "pool1": 4, "block1_0_norm": 4, "transition1_norm": 4, "block2_1_conv1": 8, "transition2_norm": 8}
  expected |= {"block3_0_norm": 16, "transition3_norm": 16, "block4_1_conv1": 32, "norm5": 32}
  assert {name: strides[name] for name in expected} == expected
  assert output.taps["transition3_norm"].shape == (1, 4, 6, narrow.config.feature_channels)


@pytest.mark.parametrize(
  ("name", "channels", "cam_channels", "count"),
  [("densenet121", 1024, 1024, 7_978_856), ("densenet161", 2112, 2208, 28_681_000)],
)
def test_it_has_the_published_number_of_parameters(name, channels, cam_channels, count):
  """`count` is torchvision's; folding leaves the offset of a batch norm, and 3x3 and transitions have a bias here, of zero."""
  config = registry.find_network(name).config
  sizes = {path: leaf.size for path, leaf in parameters.list_parameters(registry.build_abstract(name)).items()}
  folded = sum(size for path, size in sizes.items() if path.endswith("conv1/bias"))
  without_norm = sum(size for path, size in sizes.items() if path.endswith(("conv2/bias", "_conv/bias")))
  assert sum(sizes.values()) + folded - without_norm == count
  assert (config.feature_channels, sizes["norm5/bias"]) == (channels, cam_channels)
