import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cwf_jax.models import layers, parameters, registry
from cwf_jax.models.mobilenet_v2 import MobileNetV2Config
from tests.models import peers
from tests.oracle.deviation import assert_close

TABLE = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
"""Table 2 of the paper: expansion, output channels, repetitions, stride of the first."""

# Float32 sums in another order, through 52 layers: up to 3e-6 of the maximum was seen.
TOLERANCE = 5e-5


@pytest.fixture(scope="module")
def network():
  """All 17 blocks, narrow, with biases."""
  config = MobileNetV2Config(conv1_channels=8, widths=(4, 6, 8, 8, 8, 12, 16), cam_channels=24, num_classes=10)
  return peers.draw_network("mobilenet_v2", config)


def _assert_near(value, expected, tolerance=TOLERANCE, name="MobileNetV2: in batches"):
  assert np.abs(expected).max() > 0
  assert_close(name, value, expected, tolerance)


@pytest.mark.parametrize("size", [(32, 32), (64, 96), (96, 32), (96, 128)])
def test_a_padded_image_gives_what_the_image_gives(network, size):
  peers.assert_padding_is_ignored("MobileNetV2", network, size, (96, 128))


def test_a_batch_is_its_images_one_by_one(network):
  images, sizes = jnp.asarray(peers.draw_pixels(96, 128, batch=2)), jnp.array([(96, 128), (64, 32)])
  batch = peers.forward(network, images, sizes)
  for position in range(2):
    one = peers.forward(network, images[position : position + 1], sizes[position : position + 1])
    _assert_near(one.logits[0], batch.logits[position])
    _assert_near(one.cam_features[0], batch.cam_features[position])


def test_half_precision_stays_near(network):
  images, sizes = jnp.asarray(peers.draw_pixels(96, 128)), jnp.array([(96, 128)])
  full, half = peers.forward(network, images, sizes), peers.forward(network, images.astype(jnp.bfloat16), sizes)
  assert half.cam_features.dtype == half.taps[network.config.feature_tap].dtype == jnp.bfloat16
  assert half.logits.dtype == jnp.float32
  # 8 bits of mantissa: 4e-3 a rounding, which adds up through 52 layers, most of them without a nonlinearity after them.
  _assert_near(half.logits, full.logits, 0.1, "MobileNetV2: logits of half precision")


@pytest.mark.parametrize("shape", [(1, 32, 48, 3), (1, 16, 32, 3), (1, 33, 32, 3)])
def test_a_canvas_that_is_no_multiple_of_32_is_refused(network, shape):
  with pytest.raises(ValueError, match=f"multiples of 32, found {shape[1]}x{shape[2]}"):
    network(jnp.zeros(shape), jnp.array([[16, 16]]))


def test_an_unknown_tap_is_named_with_those_there_are(network):
  with pytest.raises(ValueError, match=r"no tap named \['conv5_1'\]; there are conv1, block0_depthwise, block1_expand, "):
    network(jnp.zeros((1, 32, 32, 3)), jnp.array([[32, 32]]), ("cam", "conv5_1"))


def test_every_tap_has_its_stride(network):
  names = network.config.tap_names
  output = jax.eval_shape(lambda x, s: network(x, s, names), jnp.zeros((1, 64, 96, 3)), jnp.array([[64, 96]]))
  assert len(names) == 1 + 16 + 17 + 1 and len(set(names)) == len(names)
  strides = {name: 64 // value.shape[1] for name, value in output.taps.items()}
  expected = {"conv1": 2, "block0_depthwise": 2, "block1_expand": 2, "block1_depthwise": 4, "block3_expand": 4}
  expected |= {"block3_depthwise": 8, "block6_expand": 8, "block6_depthwise": 16, "block12_depthwise": 16}
  expected |= {"block13_expand": 16, "block13_depthwise": 32, "block16_depthwise": 32, "cam": 32}
  assert {name: strides[name] for name in expected} == expected
  assert output.cam_features.shape == (1, 2, 3, 24)
  assert output.taps["block13_expand"].shape == (1, 4, 6, 6 * 8)


def test_the_blocks_are_those_of_the_published_table():
  expected, channels = [], 32
  for expansion, width, repetitions, stride in TABLE:
    for place in range(repetitions):
      expected.append((channels, channels * expansion, width, stride if place == 0 else 1, 3))
      channels = width
  config = MobileNetV2Config()
  assert config.blocks == tuple(expected) and len(expected) == 17
  assert config.feature_channels == 576  # at stride 16: half of 2 * 2 * 2 * 2 * 2
  assert (config.stride, config.size_multiple, config.image_size) == (16, 32, 224)
  assert hash(config) == hash(MobileNetV2Config())


def test_it_has_the_parameters_that_keras_counts():
  """Keras counts 3,538,984. Of the four numbers that its batch norm holds for each channel, folding leaves one, the bias."""
  normalized = 32 + 1280
  for channels, wide, out, _, _ in MobileNetV2Config().blocks:
    normalized += (wide if wide != channels else 0) + wide + out
  shapes = parameters.list_parameters(registry.build_abstract("mobilenet_v2"))
  assert sum(leaf.size for leaf in shapes.values()) == 3_538_984 - 3 * normalized == 3_487_816


def test_it_equals_keras(tmp_path):
  keras = peers.load_keras()
  model = keras.applications.MobileNetV2(weights=None, input_shape=(64, 96, 3))
  peers.randomize_keras(model, linear_gain=2.0)
  names = {"conv1": "Conv1_relu", "block0_depthwise": "expanded_conv_depthwise_relu", "cam": "out_relu"}
  names = {tap: names.get(tap, tap.replace("block", "block_") + "_relu") for tap in MobileNetV2Config().tap_names}
  network, pixels = peers.convert_keras(model, "mobilenet_v2", tmp_path), peers.draw_pixels(64, 96)
  peers.assert_parity("MobileNetV2 beside Keras", network, pixels, peers.run_keras(model, names, pixels))
  for file_name in ("peer.h5", "peer.keras"):
    peers.assert_same(network, peers.convert_keras(model, "mobilenet_v2", tmp_path, file_name))


def test_blocks_without_an_expansion_or_a_shortcut(network):
  held = {path.split("/")[0] for path in parameters.list_parameters(network)}
  assert "block0_expand" not in held and {"block0_depthwise", "block0_project", "block1_expand", "block16_project"} <= held


def test_a_shortcut_adds_where_stride_and_channels_stay(network):
  """Block 2 adds its input: with a projection of zeros, block 3 sees what block 1 gave."""
  arrays = dict(parameters.list_parameters(network))
  for kind in ("kernel", "bias"):
    arrays[f"block2_project/{kind}"] = jnp.zeros_like(arrays[f"block2_project/{kind}"])
  changed = parameters.with_parameters(registry.build_abstract("mobilenet_v2", network.config), jax.device_get(arrays))
  image, sizes = jnp.asarray(peers.draw_pixels(96, 128)), jnp.array([(96, 128)])
  taps = peers.forward(changed, image, sizes).taps
  inside = taps["block1_depthwise"]
  kernel, bias = changed.block1_project.kernel[...][0, 0], changed.block1_project.bias[...]
  output = jnp.einsum("bijc,ck->bijk", inside, kernel, precision="highest") + bias
  expand = changed.block3_expand
  expected = jax.nn.relu6(jnp.einsum("bijc,ck->bijk", output, expand.kernel[...][0, 0], precision="highest") + expand.bias[...])
  _assert_near(taps["block3_expand"], expected)


DRAWN = np.random.default_rng(7)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", [(1, 2, 2, 3), (2, 8, 6, 5), (1, 4, 10, 1), (1, 5, 7, 4), (2, 1, 4, 2)])
def test_both_forms_of_a_depthwise_convolution_agree(shape, stride):
  images, kernel = DRAWN.standard_normal(shape, np.float32), DRAWN.standard_normal((3, 3, 1, shape[-1]), np.float32)
  shifted = layers._depthwise_shifted(jnp.asarray(images), jnp.asarray(kernel), stride)
  grouped = layers._depthwise_lax(jnp.asarray(images), jnp.asarray(kernel), stride)
  assert shifted.shape == grouped.shape == ((*shape[:1], *(n // stride for n in shape[1:3]), shape[3]))
  np.testing.assert_allclose(shifted, grouped, atol=1e-5)  # nine products of normal numbers in float32


def test_the_form_belongs_to_the_platform_lowered_for():
  layer = layers.DepthwiseConv(4, 4, rngs=nnx.Rngs(0))
  traced = jax.jit(lambda maps, mask: layer(maps, mask)).trace(jnp.zeros((1, 8, 8, 4)), jnp.ones((1, 8, 8), bool))
  on_cpu, on_gpu = (traced.lower(lowering_platforms=(name,)).as_text() for name in ("cpu", "cuda"))
  assert "stablehlo.convolution" not in on_cpu and "feature_group_count = 4" in on_gpu


def _convolve(maps, kernel, bias, stride, mask, depthwise=False):
  """A padded convolution cell by cell: one cell of zeros on all sides, or, at every second cell, below and at the right."""
  maps, kernel = np.asarray(maps, np.float64), np.asarray(kernel, np.float64)
  images, rows, columns = maps.shape[0], maps.shape[1] // stride, maps.shape[2] // stride
  result = np.zeros((images, rows, columns, kernel.shape[-1]))
  first = -(kernel.shape[0] // 2) if stride == 1 else 0
  for b, i, j in np.ndindex(images, rows, columns):
    if not mask[b][i][j]:
      continue
    total = np.array(bias, np.float64)
    for row, column in np.ndindex(kernel.shape[:2]):
      y, x = i * stride + row + first, j * stride + column + first
      if 0 <= y < maps.shape[1] and 0 <= x < maps.shape[2]:
        seen = maps[b, y, x]
        total = total + (seen * kernel[row, column, 0] if depthwise else seen @ kernel[row, column])
    result[b, i, j] = np.minimum(np.maximum(total, 0), 6)
  return result


@pytest.mark.parametrize(
  ("kind", "channels", "stride"),
  [
    (layers.MaskedConv, (3, 5), 2),
    (layers.MaskedConv, (3, 5), 1),
    (layers.PointwiseConv, (4, 6), 1),
    (layers.DepthwiseConv, (4, 4), 1),
    (layers.DepthwiseConv, (4, 4), 2),
  ],
)
def test_a_layer_equals_the_loop(kind, channels, stride):
  layer = kind(*channels, rngs=nnx.Rngs(1), stride=stride, activation=jax.nn.relu6)
  bias = DRAWN.normal(0.5, 1.0, channels[1]).astype(np.float32)
  layer.bias.set_value(jnp.asarray(bias))
  maps = DRAWN.normal(0, 3.0, (2, 6, 8, channels[0])).astype(np.float32)
  mask = layers.valid_mask(jnp.array([[6, 8], [4, 2]]) // stride, (6 // stride, 8 // stride))
  expected = _convolve(maps, layer.kernel[...], bias, stride, np.asarray(mask), kind is layers.DepthwiseConv)
  found = layer(jnp.asarray(maps), mask)
  assert found.shape == expected.shape
  np.testing.assert_allclose(found, expected, atol=2e-5)  # sums of up to 27 products of up to 10, in float32
  assert (expected == 6).any() and (expected == 0).any()  # both ends of ReLU6 are seen


def test_a_linear_layer_keeps_what_is_negative():
  layer = layers.PointwiseConv(4, 6, rngs=nnx.Rngs(0), activation=layers.identity)
  found = layer(jnp.asarray(DRAWN.standard_normal((1, 3, 3, 4), np.float32)), jnp.ones((1, 3, 3), bool))
  assert found.min() < 0 < found.max()


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({"depths": (1, 2)}, "need one value a group"),
    ({"strides": (2, 2, 2, 2, 1, 1, 1), "expansions": (1, 1, 1, 1, 1, 1, 1)}, "feature tap block6_depthwise"),
    ({"strides": (1, 2, 2, 2, 1, 1, 1)}, "found stride 16"),
  ],
)
def test_a_shape_without_the_feature_tap_is_refused(changes, said):
  with pytest.raises(ValueError, match=said):
    MobileNetV2Config(**changes)
