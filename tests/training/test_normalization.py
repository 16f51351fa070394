import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cwf_jax.models import layers, parameters, registry
from cwf_jax.training import normalization
from cwf_jax.training.normalization import EPSILON, MOMENTUM, NormalizedConv
from tests.oracle.deviation import assert_close
from tests.tiny import TEACHER
from tests.training.conftest import STUDENT

# A factor on the kernel in the place of one on its output rounds otherwise, through up to 45 layers: 7e-7 was seen.
TOLERANCE = 1e-5

NETWORKS = [("vgg16_cam_quarter", STUDENT), ("mobilenet_v2", TEACHER)]


def _normalized_layers(network):
  return {name: layer for name, layer in vars(network).items() if isinstance(layer, NormalizedConv)}


def randomize(network, seed=0):
  """Statistics and factors as a trained network has them: some negative, none of them one."""
  generator = np.random.default_rng(seed)
  for layer in _normalized_layers(network).values():
    shape = layer.norm.scale[...].shape
    layer.norm.scale.set_value(jnp.asarray(generator.choice([-1, 1], shape) * generator.uniform(0.5, 1.2, shape), jnp.float32))
    layer.norm.bias.set_value(jnp.asarray(generator.normal(0, 0.5, shape), jnp.float32))
    layer.norm.mean.set_value(jnp.asarray(generator.normal(0, 0.5, shape), jnp.float32))
    layer.norm.var.set_value(jnp.asarray(generator.uniform(0.6, 2, shape), jnp.float32))


@jax.jit
def forward(network, images):
  """A pass over whole images, with all taps."""
  return network(images, jnp.full((len(images), 2), images.shape[1], jnp.int32), network.config.tap_names)


def _draw_images(*shape):
  return jnp.asarray(np.random.default_rng(1).standard_normal(shape, np.float32))


@pytest.mark.parametrize(("name", "config"), NETWORKS)
def test_a_folded_network_gives_what_the_one_with_batch_norm_gives(name, config):
  network = registry.build(name, config)
  normalization.insert(network)
  randomize(network)
  network.eval()
  folded = normalization.fold(network, name)
  images = _draw_images(2, 64, 64, 3)
  expected, found = forward(network, images), forward(folded, images)
  assert_close(f"folded: logits of {name}", found.logits, expected.logits, TOLERANCE)
  assert_close(f"folded: CAM features of {name}", found.cam_features, expected.cam_features, TOLERANCE)
  assert np.abs(expected.cam_features).max() > 0
  for tap in config.tap_names:
    assert_close(f"folded: taps of {name}", found.taps[tap], expected.taps[tap], TOLERANCE)


@pytest.mark.parametrize(("name", "config"), NETWORKS)
def test_a_folded_network_is_a_plain_one(name, config):
  network = registry.build(name, config)
  plain = parameters.describe_arrays(parameters.list_parameters(network))
  kernels = {path: np.asarray(array) for path, array in parameters.list_parameters(network).items() if path.endswith("kernel")}
  normalization.insert(network)
  every = sum(isinstance(layer, layers.MaskedConv) for layer in vars(registry.build_abstract(name, config)).values())
  assert len(_normalized_layers(network)) == every > 5
  assert not any(isinstance(layer, layers.MaskedConv) for layer in vars(network).values())
  found = parameters.list_parameters(normalization.fold(network, name))
  assert parameters.describe_arrays(found) == plain
  for path, kernel in kernels.items():  # what fresh batch norm divides by, with mean 0 and variance 1
    np.testing.assert_allclose(found[path], kernel if "classifier" in path else kernel / np.sqrt(1 + EPSILON), rtol=1e-6)


@pytest.mark.parametrize(("name", "config"), NETWORKS)
def test_a_network_without_batch_norm_is_folded_to_itself(name, config):
  network = registry.build(name, config, seed=3)
  assert parameters.hash_parameters(normalization.fold(network, name)) == parameters.hash_parameters(network)


def test_a_network_with_batch_norm_in_some_layers_is_folded_there():
  network = registry.build("vgg16_cam_quarter", STUDENT)
  network.cam = NormalizedConv(network.cam, rngs=nnx.Rngs(0))
  network.conv1_1.bias.set_value(jnp.arange(4.0))
  randomize(network)
  network.eval()
  images = _draw_images(1, 32, 32, 3)
  folded = normalization.fold(network, "vgg16_cam_quarter")
  np.testing.assert_array_equal(folded.conv1_1.bias[...], np.arange(4.0))
  assert_close("folded: one layer", forward(folded, images).logits, forward(network, images).logits, TOLERANCE)


def _convolve(maps, kernel):
  """A 3x3 convolution with one cell of zeros around, by loops."""
  padded = np.pad(np.asarray(maps, np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
  result = np.zeros((*maps.shape[:3], kernel.shape[-1]))
  for b, i, j in np.ndindex(maps.shape[:3]):
    for row, column in np.ndindex(3, 3):
      result[b, i, j] += padded[b, i + row, j + column] @ np.asarray(kernel[row, column], np.float64)
  return result


def test_training_normalizes_by_the_batch_and_moves_the_running_statistics():
  layer = layers.MaskedConv(3, 4, rngs=nnx.Rngs(0))
  kernel = np.asarray(layer.kernel[...])
  normalized = NormalizedConv(layer, rngs=nnx.Rngs(0))
  scale, bias = np.array([1.0, -2.0, 0.5, 3.0]), np.array([0.1, -0.2, 0.3, 0.0])
  normalized.norm.scale.set_value(jnp.asarray(scale, jnp.float32))
  normalized.norm.bias.set_value(jnp.asarray(bias, jnp.float32))
  mean, variance = np.zeros(4), np.ones(4)
  for seed in range(3):
    maps = np.random.default_rng(seed).normal(1.0, 2.0, (2, 6, 5, 3)).astype(np.float32)
    found = normalized(jnp.asarray(maps), jnp.ones((2, 6, 5), bool))
    raw = _convolve(maps, kernel)
    rows = [raw[place] for place in np.ndindex(2, 6, 5)]
    batch_mean = sum(rows) / len(rows)
    batch_variance = sum((row - batch_mean) ** 2 for row in rows) / len(rows)
    expected = np.maximum((raw - batch_mean) / np.sqrt(batch_variance + EPSILON) * scale + bias, 0)
    # the variance is a difference of means of squares, in float32
    assert_close("batch norm: output", found, expected, 1e-5)
    mean, variance = (
      MOMENTUM * before + (1 - MOMENTUM) * now for before, now in ((mean, batch_mean), (variance, batch_variance))
    )
    assert_close("batch norm: running mean", normalized.norm.mean[...], mean, 1e-5)
    assert_close("batch norm: running variance", normalized.norm.var[...], variance, 1e-5)


def test_the_layer_has_no_bias_and_keeps_the_dtype_of_its_maps():
  layer = layers.MaskedConv(3, 4, rngs=nnx.Rngs(0))
  normalized = NormalizedConv(layer, rngs=nnx.Rngs(0))
  held = {"layer/kernel", "norm/bias", "norm/mean", "norm/scale", "norm/var"}
  assert set(parameters.list_parameters(normalized)) == held
  mask = layers.valid_mask(jnp.array([[3, 2]]), (4, 4))
  found = normalized(_draw_images(1, 4, 4, 3).astype(jnp.bfloat16), mask)
  assert found.dtype == jnp.bfloat16
  assert normalized.norm.mean[...].dtype == normalized.norm.var[...].dtype == jnp.float32
  np.testing.assert_array_equal(jnp.where(mask[..., None], 0, found), 0)
