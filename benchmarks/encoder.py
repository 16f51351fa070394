"""How long does the default encoder take, CAMs and 64 class vectors included, beside PyTorch's time for the network alone?

  python benchmarks/encoder.py                          # EfficientNet-Lite0, 256x384, batches of 1 and 8
  python benchmarks/encoder.py --weights efficientnet_lite2 --runs 15
  python benchmarks/encoder.py --smoke                  # a tiny size, to see that it runs

All have the same weights. PyTorch (extra `peers`) runs twice: as its default is (NCHW, batch norm as layers of its own), and
channels_last with batch norm folded, its fastest form. They take turns in one process, so that the ratios hold on a
machine with other work on it; the first pass of each turn is not counted, since the other's threads still wait busily in it.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from cwf_jax.cli import allocator
from cwf_jax.conversion.packaged import read_state
from cwf_jax.encoder import encode
from cwf_jax.load import load_encoder
from cwf_jax.models.inverted_residuals import InvertedResidualConfig


def main(arguments: list[str] | None = None) -> None:
  """Prints a line for each batch size and peer, and the ratio."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--weights", default="efficientnet_lite0")
  parser.add_argument("--height", type=int, default=256)
  parser.add_argument("--width", type=int, default=384)
  parser.add_argument("--batches", default="1,8")
  parser.add_argument("--runs", type=int, default=25)
  parser.add_argument("--smoke", action="store_true", help="a tiny size and two runs")
  options = parser.parse_args(arguments)
  if options.smoke:
    options.height, options.width, options.batches, options.runs = 32, 64, "1", 2
  allocator.keep_freed_memory()
  encoder = load_encoder(options.weights)
  for batch in map(int, options.batches.split(",")):
    images = np.random.default_rng(0).integers(0, 256, (batch, options.height, options.width, 3), np.uint8)
    runs = {"cwf_jax": prepare_jax(encoder, images)}
    try:
      runs |= prepare_torch(options.weights, encoder.network.config, images)
    except ImportError:
      print("torch: not installed, not compared; it is in the extra `peers` (pip install 'cwf_jax[peers]')")
    report(batch, options, time_in_turns(runs, options.runs))


def prepare_jax(encoder: Any, images: np.ndarray) -> Callable[[], Any]:
  """The compiled encoder: network, probabilities, CAMs and class vectors of 64 classes."""
  sizes = np.asarray([images.shape[1:3]] * len(images), np.int32)
  compiled = encode.lower(encoder, images, sizes, num_classes=64, listed=()).compile()
  encoder, images, sizes = jax.device_put((encoder, images, sizes))
  return lambda: jax.block_until_ready(compiled(encoder, images, sizes))


def prepare_torch(weights: str, config: InvertedResidualConfig, images: np.ndarray) -> dict[str, Callable[[], Any]]:
  """The network alone in PyTorch's two forms, from preprocessed images."""
  import torch

  state = read_state(weights)
  pixels = torch.tensor((images.astype(np.float32) - 127) / 128).permute(0, 3, 1, 2)

  def prepare(folded: bool) -> Callable[[], Any]:
    layout = torch.channels_last if folded else torch.contiguous_format
    forward = make_torch_network(state, config, folded=folded)
    laid_out = pixels.contiguous(memory_format=layout)

    def run() -> Any:
      with torch.inference_mode():
        return forward(laid_out)["logits"]

    return run

  return {"torch": prepare(folded=False), "torch, channels_last and folded": prepare(folded=True)}


def make_torch_network(
  state: Mapping[str, np.ndarray], config: InvertedResidualConfig, folded: bool = True
) -> Callable[[Any], dict[str, Any]]:
  """An EfficientNet-Lite in PyTorch: images [b 3 h w] to every map by our names, and the logits.

  Args:
    state: the published state dict.
    config: the network's shape.
    folded: batch norm is folded into the convolutions, whose kernels lie channels_last; else it is a step of its own.
  """
  import torch
  from torch.nn import functional

  def load(kernel: str, norm: str) -> tuple[Any, ...]:
    """The kernel, and its bias or the parameters of its batch norm."""
    gamma, beta, mean, variance = (
      torch.tensor(state[f"{norm}.{name}"]).double() for name in ("weight", "bias", "running_mean", "running_var")
    )
    weights = torch.tensor(state[f"{kernel}.weight"])
    if not folded:
      return weights, tuple(values.float() for values in (mean, variance, gamma, beta))
    factor = gamma / torch.sqrt(variance + 1e-3)
    weights = (weights.double() * factor[:, None, None, None]).float()
    return weights.contiguous(memory_format=torch.channels_last), (beta - mean * factor).float()

  def convolve(maps: Any, layer: tuple[Any, ...], stride: int = 1, groups: int = 1) -> Any:
    kernel, rest = layer
    total = kernel.shape[-1] - stride  # "same" of TensorFlow, for sizes that are multiples of the stride
    before, after = total // 2, total - total // 2
    if before != after:
      maps, before = functional.pad(maps, (before, after, before, after)), 0
    result = functional.conv2d(maps, kernel, rest if folded else None, stride=stride, padding=before, groups=groups)
    return result if folded else functional.batch_norm(result, *rest, eps=1e-3)

  stem, head = load("_conv_stem", "_bn0"), load("_conv_head", "_bn1")
  blocks = []
  for number, block in enumerate(config.blocks):
    parts = ("expand", "depthwise", "project")[block.inside == block.channels :]
    names = {part: (f"_blocks.{number}._{part}_conv", f"_blocks.{number}._bn{'edp'.index(part[0])}") for part in parts}
    blocks.append((block, {part: load(*keys) for part, keys in names.items()}))
  classifier, bias = torch.tensor(state["_fc.weight"]), torch.tensor(state["_fc.bias"])

  def forward(images: Any) -> dict[str, Any]:
    maps = {"conv1": functional.relu6(convolve(images, stem, 2))}
    current = maps["conv1"]
    for number, (block, layers) in enumerate(blocks):
      inside = current
      if "expand" in layers:
        inside = maps[f"block{number}_expand"] = functional.relu6(convolve(inside, layers["expand"]))
      inside = functional.relu6(convolve(inside, layers["depthwise"], block.stride, block.inside))
      maps[f"block{number}_depthwise"] = inside
      projected = convolve(inside, layers["project"])
      current = current + projected if block.stride == 1 and block.channels == block.out else projected
    maps["cam"] = functional.relu6(convolve(current, head))
    maps["logits"] = functional.linear(maps["cam"].mean((2, 3)), classifier, bias)
    return maps

  return forward


def time_in_turns(runs: Mapping[str, Callable[[], Any]], count: int) -> dict[str, list[float]]:
  """Seconds of each, `count` times, taking turns."""
  seconds: dict[str, list[float]] = {name: [] for name in runs}
  for _ in range(count):
    for name, run in runs.items():
      run()
      started = time.perf_counter()
      run()
      seconds[name].append(time.perf_counter() - started)
  return seconds


def report(batch: int, options: argparse.Namespace, seconds: Mapping[str, list[float]]) -> None:
  """Prints medians, spreads and the ratio."""
  medians = {name: statistics.median(values) for name, values in seconds.items()}
  for name, values in seconds.items():
    shown = f"{1000 * medians[name]:.1f} ms ({1000 * min(values):.1f} .. {1000 * max(values):.1f})"
    print(f"{options.weights}, {batch} x {options.height} x {options.width}: {name} {shown}, {len(values)} runs")
  for name in [name for name in medians if name != "cwf_jax"]:
    print(f"  cwf_jax with CAMs and 64 class vectors / {name}, network alone: {medians['cwf_jax'] / medians[name]:.2f}")


if __name__ == "__main__":
  main()
