"""The fold of batch norm against loops over its definition, and what each rule asks for."""

import numpy as np
import pytest

from cwf_jax.conversion.rules import Normalization, Rule

NORM = Normalization("g", "b", "m", "v")


def _draw(kernel_shape, channels):
  generator = np.random.default_rng(0)
  vectors = {key: generator.uniform(0.05, 2, channels).astype(np.float32) for key in "gbmv"}
  return {"k": generator.normal(size=kernel_shape).astype(np.float32), **vectors}


@pytest.mark.parametrize("epsilon", [1e-3, 0.5])
def test_a_folded_convolution_is_the_convolution_and_its_batch_norm(epsilon):
  weights = _draw((3, 2, 5, 7), 7)
  folded = Rule("conv", "k", NORM, epsilon).apply(weights)
  assert set(folded) == {"conv/kernel", "conv/bias"}
  window = np.random.default_rng(1).normal(size=(3, 2, 5))
  for channel in range(7):
    product = sum(
      window[i, j, c] * float(weights["k"][i, j, c, channel]) for i in range(3) for j in range(2) for c in range(5)
    )
    gamma, beta, mean, variance = (float(weights[key][channel]) for key in "gbmv")
    expected = gamma * (product - mean) / (variance + epsilon) ** 0.5 + beta
    found = (window * folded["conv/kernel"][..., channel]).sum() + folded["conv/bias"][channel]
    assert found == pytest.approx(expected, rel=1e-12)  # float64 on both sides


def test_a_depthwise_kernel_is_transposed_and_scaled_by_channel():
  weights = _draw((3, 3, 4, 1), 4)
  folded = Rule("deep", "k", NORM, 1e-3, depthwise=True).apply(weights)
  assert folded["deep/kernel"].shape == (3, 3, 1, 4)
  for channel in range(4):
    scale = float(weights["g"][channel]) / (float(weights["v"][channel]) + 1e-3) ** 0.5
    expected = weights["k"][:, :, channel, 0].astype(np.float64) * scale
    np.testing.assert_allclose(folded["deep/kernel"][:, :, 0, channel], expected, rtol=1e-12)


def test_a_linear_layer_stays_as_it_is():
  weights = {"k": np.ones((2, 3), np.float32), "b": np.zeros(3, np.float32)}
  applied = Rule("top", "k", bias="b").apply(weights)
  assert applied["top/kernel"] is weights["k"] and applied["top/bias"] is weights["b"]


def test_a_rule_asks_for_the_shapes_of_the_source():
  vectors = dict.fromkeys("gbmv", (7,))
  assert Rule("c", "k", NORM, 0.1).sources((3, 3, 5, 7)) == {"k": (3, 3, 5, 7), **vectors}
  assert Rule("c", "k", NORM, 0.1, depthwise=True).sources((3, 3, 1, 7)) == {"k": (3, 3, 7, 1), **vectors}
  assert Rule("t", "k", bias="b").sources((4, 5)) == {"k": (4, 5), "b": (5,)}


def test_a_variance_below_zero_gives_no_number_and_no_warning():
  weights = _draw((1, 1, 1, 2), 2) | {"v": np.array([-1, 1], np.float32)}
  folded = Rule("conv", "k", NORM, 1e-3).apply(weights)
  assert np.isnan(folded["conv/kernel"][..., 0]).all() and np.isfinite(folded["conv/kernel"][..., 1]).all()
