import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cwf_jax.errors import InputError
from cwf_jax.models import parameters, registry
from cwf_jax.models.network import CamNetwork

_IN_TORCH = "test_it_equals_torchvisions_structure_in_pytorch"
PARITY = {
  **dict.fromkeys(
    ("vgg16_cam", "vgg16_cam_quarter", "vgg16_cam_small"),
    ("test_vgg16_cam.py", "test_it_equals_the_network_written_in_torch"),
  ),
  "vgg16": ("test_vgg.py", _IN_TORCH),
  "vgg19": ("test_vgg.py", "test_it_equals_keras"),
  "resnet50": ("test_resnet50.py", _IN_TORCH),
  **dict.fromkeys(("densenet121", "densenet161"), ("test_densenet.py", _IN_TORCH)),
  "mobilenet_v2": ("test_mobilenet_v2.py", "test_it_equals_keras"),
  **dict.fromkeys(
    ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"),
    ("test_efficientnet_lite.py", "test_the_published_weights_give_what_they_give_in_pytorch"),
  ),
}
"""The file and the test that compares each network with another library's, map by map."""


@pytest.mark.parametrize("name", registry.network_names())
def test_every_network_is_built_alike(name):
  """What the encoder asks of a network: its settings, its answer's shapes, its class weights."""
  config = registry.find_network(name).config
  assert hash(config) == hash(dataclasses.replace(config))
  assert {config.feature_tap, config.last_tap, config.pooled_tap} <= set(config.tap_names)
  assert config.image_size % config.size_multiple == 0 and config.cam_stride % config.stride == 0

  def run(network):
    assert isinstance(network, CamNetwork)
    return network.class_weights, network(jnp.zeros((1, 64, 96, 3)), jnp.array([[64, 96]]), config.tap_names)

  weights, output = jax.eval_shape(run, registry.build_abstract(name))
  assert output.logits.shape == (1, config.num_classes)
  assert set(output.taps) == set(config.tap_names)
  features = output.taps[config.feature_tap]
  assert features.shape == (1, 64 // config.stride, 96 // config.stride, config.feature_channels)
  assert output.cam_features.shape == (*output.mask.shape, weights.shape[0])
  assert output.mask.shape == (1, 64 // config.cam_stride, 96 // config.cam_stride)
  assert weights.shape[1] == config.num_classes


def test_every_network_has_a_parity_test():
  assert set(PARITY) == set(registry.network_names())
  for name, (file, function) in PARITY.items():
    assert f"def {function}(" in (Path(__file__).parent / file).read_text(encoding="utf-8"), name


def test_the_narrow_network_runs_and_answers_in_the_declared_shapes():
  network = registry.build("vgg16_cam_quarter")
  config = network.config
  output = network(jnp.zeros((1, 32, 48, 3)), jnp.array([[32, 48]]), (config.feature_tap,))
  assert output.logits.shape == (1, config.num_classes)
  assert output.taps[config.feature_tap].shape == (1, 2, 3, config.feature_channels)
  assert output.cam_features.shape == (1, 2, 3, network.class_weights.shape[0])


def test_random_weights_are_seeded_and_centered():
  first, again, other = (registry.build("vgg16_cam_quarter", seed=seed) for seed in (0, 0, 1))
  hashes = [parameters.hash_parameters(network) for network in (first, again, other)]
  assert hashes[0] == hashes[1] != hashes[2]
  weights = np.asarray(first.class_weights, np.float64)
  assert np.abs(weights.mean(1)).max() < 1e-6 * np.abs(weights).max()


def test_random_weights_are_the_same_on_every_machine():
  """The draw is exact in integers; a change of these weights would break every index that was made with them."""
  network = registry.build("vgg16_cam_quarter")
  expected = "f58146ff7b08f3b3ea3a24c98633c041bf7104c6ec405a044eb58007e12cc8c0"
  assert parameters.hash_parameters(network) == expected


def test_an_unknown_network_is_refused_with_the_names():
  with pytest.raises(InputError, match="did you mean 'vgg16_cam'"):
    registry.build("vgg16cam")


@pytest.mark.parametrize("name", registry.network_names())
def test_settings_survive_json(name):
  config = registry.find_network(name).config
  assert registry.config_from_json(name, registry.config_to_json(config)) == config


def test_wrong_settings_are_all_named():
  settings = registry.config_to_json(registry.find_network("vgg16_cam").config)
  del settings["cam_channels"]
  settings |= {"image_size": "720", "widht": 3, "preprocessing": {**settings["preprocessing"], "channel_order": "rbg"}}
  with pytest.raises(InputError) as caught:
    registry.config_from_json("vgg16_cam", settings)
  for message in ("cam_channels is missing", "widht is unknown", "image_size", "rbg"):
    assert message in str(caught.value)


def test_settings_are_frozen():
  with pytest.raises(dataclasses.FrozenInstanceError):
    registry.find_network("vgg16_cam").config.num_classes = 3
