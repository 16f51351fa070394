import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cwf_jax.errors import InputError
from cwf_jax.load import load_encoder, load_weights
from cwf_jax.models import parameters, registry
from cwf_jax.models.checkpoint import save_checkpoint
from cwf_jax.models.class_names import ClassList
from cwf_jax.models.network import Preprocessing
from cwf_jax.models.vgg import VGGConfig
from tests.models import peers
from tests.oracle.deviation import assert_close

SIZE = (224, 256)


def test_it_equals_torchvisions_structure_in_pytorch(tmp_path):
  """Narrow from fc6 on, which the test with Keras has in its full width."""
  pytest.importorskip("torch", reason="torch is in the extra `peers`")
  from tests.models.torch_networks import VGG

  torchvision = dataclasses.replace(VGGConfig.vgg16(), preprocessing=Preprocessing.torchvision())
  module, config = VGG(classifier_channels=64), dataclasses.replace(torchvision, classifier_channels=64)
  peers.randomize_torch(module, linear_gain=2.0)
  pixels = peers.draw_pixels(*SIZE)
  network = peers.convert_torch(module, "vgg16", tmp_path, config)
  peers.assert_parity("VGG-16 beside PyTorch", network, pixels, peers.run_torch(module, pixels))


@pytest.mark.parametrize("name", ["vgg16", "vgg19"])
@pytest.mark.long
def test_it_equals_keras(name, tmp_path):
  keras = peers.load_keras()
  model = (keras.applications.VGG16 if name == "vgg16" else keras.applications.VGG19)(weights=None)
  peers.randomize_keras(model, linear_gain=2.0)
  network, pixels = peers.convert_keras(model, name, tmp_path), peers.draw_pixels(224, 224)
  assert network.config == registry.find_network(name).config
  taps = [tap for tap in network.config.tap_names if not tap.startswith("fc")]
  names = {tap: f"block{tap[4]}_{tap[:4]}{tap[5:].replace('_', '')}" for tap in taps}
  expected = peers.run_keras(model, names | {"fc6": "fc1", "fc7": "fc2"}, pixels)
  for tap in ("fc6", "fc7"):  # the one window of 224x224, in the middle of pool5
    expected[tap] = np.pad(expected[tap][:, None, None], ((0, 0), (3, 3), (3, 3), (0, 0)))
  peers.assert_parity(f"VGG-{name[-2:]} beside Keras", network, pixels, expected)


def test_a_file_without_the_classifier_becomes_a_network_without_classes(tmp_path):
  keras = peers.load_keras()
  model = keras.applications.VGG16(weights=None, include_top=False)
  network = peers.convert_keras(model, "vgg16", tmp_path)
  assert network.config == VGGConfig.vgg16(num_classes=0)
  for layer in ("block1_conv1", "block5_conv3"):
    ours = getattr(network, layer.replace("block", "conv").replace("_conv", "_"))
    np.testing.assert_array_equal(ours.kernel[...], model.get_layer(layer).kernel.value)


@pytest.fixture(scope="module")
def narrow():
  """Narrow, with biases."""
  config = VGGConfig(widths=(2, 3, 4, 6, 8), depths=(1, 1, 1, 1, 1), classifier_channels=12, num_classes=10)
  return peers.draw_network("vgg16", config)


@pytest.mark.parametrize("size", [(32, 32), (64, 128), (224, 96), (256, 288)])
def test_a_padded_image_gives_what_the_image_gives(narrow, size):
  peers.assert_padding_is_ignored("VGG", narrow, size, (256, 320))


@pytest.mark.parametrize(
  ("size", "rows", "columns"),
  [
    ((32, 32), [0], [0]),
    ((64, 96), [0], [1]),
    ((128, 192), [1], [2]),
    ((224, 256), [3], [3, 4]),
    ((320, 224), [3, 4, 5, 6], [3]),
  ],
)
def test_the_windows_lie_inside_the_image_or_in_its_middle(narrow, size, rows, columns):
  output = peers.forward(narrow, jnp.asarray(peers.draw_pixels(*size)), jnp.array([size]))
  marked = np.asarray(output.taps["fc6"]).any(-1)[0]
  assert (sorted(set(np.nonzero(marked)[0])), sorted(set(np.nonzero(marked)[1]))) == (rows, columns)
  assert output.mask.all()


def test_without_a_classifier_it_has_taps_and_no_classes():
  full = dataclasses.replace(VGGConfig.vgg16(num_classes=0), widths=(2, 3, 4, 6, 8))
  network = peers.draw_network("vgg16", full)
  assert {path.split("/")[0] for path in parameters.list_parameters(network)} == {
    tap for tap in full.tap_names if tap.startswith("conv")
  }
  output = peers.forward(network, jnp.asarray(peers.draw_pixels(32, 64)), jnp.array([(32, 64)]))
  assert output.logits.shape == (1, 0)
  assert_close("VGG: pool5 without a classifier", output.cam_features, output.taps["pool5"], 0)
  with pytest.raises(InputError, match="no classifier, so it has no classes"):
    network.class_weights  # noqa: B018


def test_an_encoder_needs_a_classifier(tmp_path):
  config = dataclasses.replace(VGGConfig.vgg16(num_classes=0), widths=(2, 3, 4, 6, 8))
  folder, network = tmp_path / "notop", peers.draw_network("vgg16", config)
  save_checkpoint(folder, network, network_name="vgg16", classes=ClassList.numbered(0))
  assert load_weights(folder).network.config == config
  with pytest.raises(InputError, match="notop is vgg16 without a classifier"):
    load_encoder(str(folder))


def test_every_tap_has_its_stride(narrow):
  output = jax.eval_shape(peers.forward, narrow, jnp.zeros((1, 224, 256, 3)), jnp.array([[224, 256]]))
  strides = {name: 224 // values.shape[1] for name, values in output.taps.items()}
  expected = {f"conv{block}_1": 2 ** (block - 1) for block in range(1, 6)} | {f"pool{block}": 2**block for block in range(1, 6)}
  assert strides == expected | {"fc6": 32, "fc7": 32}


@pytest.mark.parametrize(("name", "last", "count"), [("vgg16", "conv5_3", 138_357_544), ("vgg19", "conv5_4", 143_667_240)])
def test_it_has_the_published_number_of_parameters(name, last, count):
  config = registry.find_network(name).config
  sizes = [leaf.size for leaf in parameters.list_parameters(registry.build_abstract(name)).values()]
  assert (config.feature_tap, config.feature_channels, config.last_tap, config.pooled_tap) == ("conv5_1", 512, last, "pool5")
  assert sum(sizes) == count
  extractor = dataclasses.replace(config, num_classes=0)
  assert registry.name_network(registry.build_abstract(name, extractor)) == name
