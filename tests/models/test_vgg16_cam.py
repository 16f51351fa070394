import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import forward
from cwf_jax.models import registry, winograd
from cwf_jax.models.vgg16_cam import VGG16CAMConfig
from tests.models import peers

TAP = "conv5_1"
# Float32 sums in another order, through 14 layers: up to 1e-6 of the maximum was seen, up to 5e-6 in the Winograd form.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def network():
  return registry.build("vgg16_cam_quarter", VGG16CAMConfig.narrow(1 / 16, num_classes=10))


@pytest.fixture
def winograd_form(monkeypatch):
  """conv3_2 and conv3_3 in the Winograd form; all 14 layers would take half a minute to compile."""
  monkeypatch.setattr(winograd, "pays_off", lambda images, kernel: kernel[2:] == (16, 16))


def _draw_images(*shape):
  return jnp.asarray(np.random.default_rng(0).standard_normal(shape, np.float32))


def _forward(network, images, sizes, taps=(TAP,)):
  return jax.jit(lambda network, images, sizes: network(images, sizes, taps))(network, images, jnp.asarray(sizes))


def _assert_near(value, expected, tolerance=TOLERANCE):
  assert value.shape == expected.shape
  value, expected = np.asarray(value, np.float32), np.asarray(expected, np.float32)
  assert np.abs(expected).max() > 0
  assert np.abs(value - expected).max() <= tolerance * np.abs(expected).max()


def _assert_padding_is_ignored(network, height, width):
  image = _draw_images(1, height, width, 3)
  alone = _forward(network, image, [(height, width)])
  canvas = jnp.full((1, 80, 96, 3), 50.0).at[:, :height, :width].set(image)  # what lies outside is not even zero
  padded = _forward(network, canvas, [(height, width)])
  rows, columns = height // 16, width // 16
  for found, expected in ((padded.taps[TAP], alone.taps[TAP]), (padded.cam_features, alone.cam_features)):
    _assert_near(found[:, :rows, :columns], expected)
    assert found.at[:, :rows, :columns].set(0).max() == 0
  assert int(padded.mask.sum()) == rows * columns
  _assert_near(jax.nn.softmax(padded.logits), jax.nn.softmax(alone.logits))


@pytest.mark.parametrize("size", [(16, 16), (33, 47), (64, 95), (80, 96)])
def test_a_padded_image_gives_what_the_image_gives(network, size):
  _assert_padding_is_ignored(network, *size)


@pytest.mark.usefixtures("winograd_form")
def test_a_padded_image_gives_what_the_image_gives_in_the_winograd_form(network):
  _assert_padding_is_ignored(network, 49, 37)


def test_a_batch_is_its_images_one_by_one(network):
  images, sizes = _draw_images(2, 48, 32, 3), jnp.array([(48, 32), (35, 20)])
  batch = _forward(network, images, sizes)
  mapped = jax.jit(jax.vmap(lambda image, size: network(image[None], size[None]).logits[0]))(images, sizes)
  _assert_near(mapped, batch.logits)
  for position in range(2):
    one = _forward(network, images[position : position + 1], sizes[position : position + 1])
    _assert_near(one.cam_features[0], batch.cam_features[position])


def test_half_precision_stays_near(network):
  images, sizes = _draw_images(1, 48, 48, 3), [(48, 48)]
  full, half = _forward(network, images, sizes), _forward(network, images.astype(jnp.bfloat16), sizes)
  assert half.cam_features.dtype == half.taps[TAP].dtype == jnp.bfloat16
  assert half.logits.dtype == jnp.float32
  # 8 bits of mantissa: 4e-3 a rounding, a few of which add up through 14 layers.
  _assert_near(half.cam_features, full.cam_features, 0.05)
  _assert_near(half.logits, full.logits, 0.05)


def test_every_tap_is_returned_under_its_name(network):
  names = network.config.tap_names
  shapes = jax.eval_shape(lambda x, s: network(x, s, names), jnp.zeros((1, 48, 64, 3)), jnp.array([[48, 64]]))
  assert set(shapes.taps) == set(names)
  assert shapes.taps["conv1_2"].shape == (1, 48, 64, 4)
  assert shapes.taps["pool4"].shape == shapes.taps["conv5_1"].shape == (1, 3, 4, 32)
  assert shapes.taps["pool5"].shape == (1, 1, 2, 32)


@pytest.mark.usefixtures("winograd_form")
def test_it_equals_the_network_written_in_torch(network):
  peers.assert_benchmark_equals("VGG-16-CAM beside PyTorch", network, (37, 50))


def test_the_benchmark_runs(capsys):
  forward.main(["--smoke"])
  printed = capsys.readouterr().out
  assert "cwf_jax: median" in printed
  assert "cwf_jax / torch" in printed or "extra `peers`" in printed
