"""How long does the default encoder take, CAMs and 64 class vectors included, beside PyTorch's time for the network alone?

  python benchmarks/encoder.py                          # EfficientNet-Lite0, 256x384, batches of 1 and 8
  python benchmarks/encoder.py --weights efficientnet_lite2 --runs 15
  python benchmarks/encoder.py --smoke                  # a tiny size, to see that it runs

Both have the same weights. PyTorch (extra `peers`) runs channels_last with batch norm folded, its fastest form. The two take
turns in one process, after a warm-up, so that the ratio holds on a machine with other work on it.
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
      runs["torch"] = prepare_torch(options.weights, encoder.network.config, images)
    except ImportError:
      print("torch: not installed, not compared; it is in the extra `peers` (pip install 'cwf_jax[peers]')")
    report(batch, options, time_in_turns(runs, options.runs))


def prepare_jax(encoder: Any, images: np.ndarray) -> Callable[[], Any]:
  """The compiled encoder: network, probabilities, CAMs and class vectors of 64 classes."""
  sizes = np.asarray([images.shape[1:3]] * len(images), np.int32)
  compiled = encode.lower(encoder, images, sizes, num_classes=64, listed=()).compile()
  encoder, images, sizes = jax.device_put((encoder, images, sizes))
  return lambda: jax.block_until_ready(compiled(encoder, images, sizes))


def prepare_torch(weights: str, config: InvertedResidualConfig, images: np.ndarray) -> Callable[[], Any]:
  """The network alone in PyTorch, from preprocessed images."""
  import torch

  forward = make_torch_network(read_state(weights), config)
  pixels = torch.tensor((images.astype(np.float32) - 127) / 128).permute(0, 3, 1, 2)
  pixels = pixels.contiguous(memory_format=torch.channels_last)

  def run() -> Any:
    with torch.inference_mode():
      return forward(pixels)["logits"]

  return run


def make_torch_network(state: Mapping[str, np.ndarray], config: InvertedResidualConfig) -> Callable[[Any], dict[str, Any]]:
  """An EfficientNet-Lite in PyTorch: images [b 3 h w] to every map by our names, and the logits.

  Args:
    state: the published state dict.
    config: the network's shape.
  """
  import torch
  from torch.nn import functional

  def load(kernel: str, norm: str) -> tuple[Any, Any]:
    gamma, beta, mean, variance = (
      torch.tensor(state[f"{norm}.{name}"]).double() for name in ("weight", "bias", "running_mean", "running_var")
    )
    factor = gamma / torch.sqrt(variance + 1e-3)
    folded = torch.tensor(state[f"{kernel}.weight"]).double() * factor[:, None, None, None]
    return folded.float().contiguous(memory_format=torch.channels_last), (beta - mean * factor).float()

  def convolve(maps: Any, layer: tuple[Any, Any], stride: int = 1, groups: int = 1) -> Any:
    total = layer[0].shape[-1] - stride  # "same" of TensorFlow, for sizes that are multiples of the stride
    before, after = total // 2, total - total // 2
    if before == after:
      return functional.conv2d(maps, *layer, stride=stride, padding=before, groups=groups)
    return functional.conv2d(functional.pad(maps, (before, after, before, after)), *layer, stride=stride, groups=groups)

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
  """Seconds of each, `count` times, taking turns after a warm-up."""
  seconds: dict[str, list[float]] = {name: [] for name in runs}
  for run in runs.values():
    run()
  for _ in range(count):
    for name, run in runs.items():
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
  if "torch" in medians:
    print(f"  cwf_jax with CAMs and 64 class vectors / torch, network alone: {medians['cwf_jax'] / medians['torch']:.2f}")


if __name__ == "__main__":
  main()
