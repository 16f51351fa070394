"""How long does one forward pass take here, and how long in PyTorch on the same machine with the same weights?

  python benchmarks/forward.py                                  # the paper's size, one image of 720x1024
  python benchmarks/forward.py --height 384 --width 512 --allocator
  python benchmarks/forward.py --network vgg16_cam_quarter --height 320 --width 480
  python benchmarks/forward.py --smoke                          # a tiny size, to see that it runs

Both passes return the logits, the CAM features and conv5_1. They take turns in one process, after a warm-up, so that the
ratio holds on a machine with other work on it. PyTorch runs channels_last, its faster layout. It comes with the extra
`peers`; without it only this package is timed.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cwf_jax.cli import allocator
from cwf_jax.models import registry

TAP = "conv5_1"


def main(arguments: list[str] | None = None) -> None:
  """Prints one line per peer, then the ratio and the largest difference."""
  options = parse(arguments)
  if options.allocator:
    print(f"allocator keeps freed memory: {allocator.keep_freed_memory()}")
  network = registry.build(options.network)
  pixels = np.random.default_rng(0).uniform(-120, 130, (1, options.height, options.width, 3)).astype(np.float32)
  run_here, compile_seconds = prepare_jax(network, pixels)
  passes = {"cwf_jax": run_here}
  try:
    passes["torch"] = prepare_torch(network, pixels)
  except ImportError:
    print("torch: not installed, not compared; it is in the extra `peers` (pip install 'cwf_jax[peers]')")
  print(f"{options.network}, 1 x {options.height} x {options.width}, float32, {jax.default_backend()}")
  print(f"cwf_jax compile: {compile_seconds:.1f} s")
  results = {name: run() for name, run in passes.items()}
  report(time_alternating(passes, options.runs), results)


def parse(arguments: list[str] | None) -> argparse.Namespace:
  """The command line's options; `--smoke` overrides network, size and runs."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--network", default="vgg16_cam", choices=registry.network_names())
  parser.add_argument("--height", type=int, default=720)
  parser.add_argument("--width", type=int, default=1024)
  parser.add_argument("--runs", type=int, default=5)
  parser.add_argument("--allocator", action="store_true", help="let malloc keep freed memory, as the command line does")
  parser.add_argument("--smoke", action="store_true", help="a tiny size and two runs")
  options = parser.parse_args(arguments)
  if options.smoke:
    options.network, options.height, options.width, options.runs = "vgg16_cam_quarter", 32, 48, 2
  return options


def prepare_jax(network: Any, pixels: np.ndarray) -> tuple[Callable[[], list[np.ndarray]], float]:
  """The compiled pass of this package, and what compiling took."""
  images, sizes = jnp.asarray(pixels), jnp.asarray([pixels.shape[1:3]], jnp.int32)
  started = time.perf_counter()
  compiled = jax.jit(lambda network, images, sizes: network(images, sizes, (TAP,))).lower(network, images, sizes).compile()
  seconds = time.perf_counter() - started

  def run() -> list[np.ndarray]:
    output = jax.block_until_ready(compiled(network, images, sizes))
    return [np.asarray(value) for value in (output.logits, output.cam_features, output.taps[TAP])]

  return run, seconds


def prepare_torch(network: Any, pixels: np.ndarray) -> Callable[[], list[np.ndarray]]:
  """The same pass in PyTorch, its arrays seen as [b h w c] again."""
  import torch

  def convolution(layer: Any) -> torch.nn.Conv2d:
    kernel = torch.tensor(np.asarray(layer.kernel[...])).permute(3, 2, 0, 1)
    module = torch.nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1)
    module.weight.data, module.bias.data = kernel, torch.tensor(np.asarray(layer.bias[...]))
    return module

  names = [*network.config.tap_names[:-1], "cam"]  # without the last pool
  steps = torch.nn.ModuleDict(
    {name: torch.nn.MaxPool2d(2) if name.startswith("pool") else convolution(getattr(network, name)) for name in names}
  ).to(memory_format=torch.channels_last)
  weights, bias = (torch.tensor(np.asarray(value[...])) for value in (network.classifier.kernel, network.classifier.bias))
  images = torch.tensor(pixels).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)

  @torch.inference_mode()
  def run() -> list[np.ndarray]:
    maps = images
    for name, step in steps.items():
      maps = step(maps) if name.startswith("pool") else torch.relu_(step(maps))
      if name == TAP:
        tap = maps
    logits = maps.mean((2, 3)) @ weights + bias
    return [logits.numpy(), *(value.permute(0, 2, 3, 1).numpy() for value in (maps, tap))]

  return run


def time_alternating(passes: dict[str, Callable[[], Any]], runs: int) -> dict[str, list[float]]:
  """Seconds of each pass, `runs` times each, taking turns; both have run once already."""
  seconds: dict[str, list[float]] = {name: [] for name in passes}
  for _ in range(runs):
    for name, run in passes.items():
      started = time.perf_counter()
      run()
      seconds[name].append(time.perf_counter() - started)
  return seconds


def report(seconds: dict[str, list[float]], results: dict[str, list[np.ndarray]]) -> None:
  """Prints medians and spreads; with a peer, the ratio and the largest differences."""
  medians = {name: statistics.median(values) for name, values in seconds.items()}
  for name, values in seconds.items():
    print(f"{name}: median {medians[name]:.3f} s ({min(values):.3f} .. {max(values):.3f}), {len(values)} runs")
  if "torch" not in seconds:
    return
  print(f"cwf_jax / torch: {medians['cwf_jax'] / medians['torch']:.3f}")
  for name, here, there in zip(("logits", "CAM features", TAP), results["cwf_jax"], results["torch"], strict=True):
    print(f"largest difference in {name}: {np.abs(here - there).max() / np.abs(there).max():.1e} of the maximum")


if __name__ == "__main__":
  main()
