"""How long does one forward pass take here, and how long in PyTorch on the same machine with the same weights?

  python benchmarks/forward.py                                  # the paper's size, one image of 720x1024
  python benchmarks/forward.py --height 384 --width 512 --allocator
  python benchmarks/forward.py --network vgg16_cam_quarter --height 320 --width 480
  python benchmarks/forward.py --network resnet50 --allocator   # or densenet161; their sizes are multiples of 32: 704x1024
  python benchmarks/forward.py --smoke                          # a tiny size, to see that it runs

Both passes return the logits, the CAM features and the feature tap, with batch norm folded. They take turns in one process,
after a warm-up, so that the ratio holds on a machine with other work on it. PyTorch runs channels_last, its faster layout. It
comes with the extra `peers`; without it only this package is timed.
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


def main(arguments: list[str] | None = None) -> None:
  """Prints one line per peer, then the ratio and the largest difference."""
  options = parse(arguments)
  if options.allocator:
    print(f"allocator keeps freed memory: {allocator.keep_freed_memory()}")
  network = registry.build(options.network)
  height, width = (side - side % network.config.size_multiple for side in (options.height, options.width))
  pixels = np.random.default_rng(0).uniform(-120, 130, (1, height, width, 3)).astype(np.float32)
  run_here, compile_seconds, gigaflops = prepare_jax(network, pixels)
  passes = {"cwf_jax": run_here}
  try:
    passes["torch"] = prepare_torch(network, pixels)
  except ImportError:
    print("torch: not installed, not compared; it is in the extra `peers` (pip install 'cwf_jax[peers]')")
  except LookupError as error:
    print(f"torch: not compared; {error}")
  print(f"{options.network}, 1 x {height} x {width}, float32, {jax.default_backend()}, {gigaflops:.0f} GFLOP by XLA's count")
  print(f"cwf_jax compile: {compile_seconds:.1f} s")
  results = {name: run() for name, run in passes.items()}
  report(time_alternating(passes, options.runs), results, network.config.feature_tap)


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


def prepare_jax(network: Any, pixels: np.ndarray) -> tuple[Callable[[], list[np.ndarray]], float, float]:
  """The compiled pass of this package, the seconds that compiling took, and its floating-point operations in billions."""
  images, sizes, tap = jnp.asarray(pixels), jnp.asarray([pixels.shape[1:3]], jnp.int32), network.config.feature_tap
  started = time.perf_counter()
  lowered = jax.jit(lambda network, images, sizes: network(images, sizes, (tap,))).lower(network, images, sizes)
  compiled = lowered.compile()
  seconds = time.perf_counter() - started

  def run() -> list[np.ndarray]:
    output = jax.block_until_ready(compiled(network, images, sizes))
    return [np.asarray(value) for value in (output.logits, output.cam_features, output.taps[tap])]

  return run, seconds, lowered.cost_analysis()["flops"] / 1e9


def prepare_torch(network: Any, pixels: np.ndarray) -> Callable[[], list[np.ndarray]]:
  """The same pass in PyTorch with the same weights, its arrays seen as [b h w c] again.

  Raises:
    LookupError: the network is not written in PyTorch here.
  """
  import torch

  forwards = {"VGG16CAM": _forward_vgg16_cam, "ResNet50": _forward_resnet50, "DenseNet": _forward_densenet}
  if type(network).__name__ not in forwards:
    raise LookupError(f"{type(network).__name__} is not written in PyTorch here")
  steps = _TorchSteps(network)
  images = torch.tensor(pixels).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)

  @torch.inference_mode()
  def run() -> list[np.ndarray]:
    maps, tap = forwards[type(network).__name__](steps, network.config, images)
    weights, bias = steps.tensors["classifier"]
    logits = maps.mean((2, 3)) @ weights + bias
    return [logits.numpy(), *(value.permute(0, 2, 3, 1).numpy() for value in (maps, tap))]

  return run


class _TorchSteps:
  """A network's layers by their names, in PyTorch."""

  def __init__(self, network: Any):
    import torch

    self.network = network
    self.tensors: dict[str, tuple[Any, Any]] = {}
    for name, layer in vars(network).items():
      if hasattr(layer, "bias"):
        weights = torch.tensor(np.asarray((layer.kernel if hasattr(layer, "kernel") else layer.scale)[...]))
        if weights.ndim == 4:
          weights = weights.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
        self.tensors[name] = weights, torch.tensor(np.asarray(layer.bias[...]))

  def convolve(self, name: str, maps: Any) -> Any:
    """The convolution without its activation."""
    import torch

    kernel, bias = self.tensors[name]
    return torch.conv2d(maps, kernel, bias, getattr(self.network, name).stride, kernel.shape[-1] // 2)

  def rectify(self, name: str, maps: Any) -> Any:
    """The convolution and ReLU."""
    return self.convolve(name, maps).relu_()

  def scale(self, name: str, maps: Any) -> Any:
    """A batch norm of its own, and ReLU."""
    import torch

    scale, bias = self.tensors[name]
    return torch.nn.functional.batch_norm(maps, torch.zeros_like(bias), torch.ones_like(bias), scale, bias, eps=1e-12).relu_()


def _forward_vgg16_cam(steps: _TorchSteps, config: Any, maps: Any) -> tuple[Any, Any]:
  """The CAM features and the feature tap, of images [b 3 h w]; so do those below."""
  import torch

  for name in config.tap_names[:-1]:  # without the last pool
    maps = torch.max_pool2d(maps, 2) if name.startswith("pool") else steps.rectify(name, maps)
    if name == config.feature_tap:
      tap = maps
  return steps.rectify("cam", maps), tap


def _forward_resnet50(steps: _TorchSteps, config: Any, maps: Any) -> tuple[Any, Any]:
  import torch

  maps = torch.max_pool2d(steps.rectify("conv1", maps), 3, 2, 1)
  for name, *_ in config.blocks:
    inside = steps.rectify(f"{name}_conv2", steps.rectify(f"{name}_conv1", maps))
    shortcut = steps.convolve(f"{name}_downsample", maps) if f"{name}_downsample" in steps.tensors else maps
    maps = steps.convolve(f"{name}_conv3", inside).add_(shortcut).relu_()
    if name == config.feature_tap:
      tap = maps
  return maps, tap


def _forward_densenet(steps: _TorchSteps, config: Any, maps: Any) -> tuple[Any, Any]:
  import torch

  maps = torch.max_pool2d(steps.rectify("conv1", maps), 3, 2, 1)
  for block, depth in enumerate(config.depths, 1):
    for layer in range(depth):
      name = f"block{block}_{layer}"
      inside = steps.rectify(f"{name}_conv1", steps.scale(f"{name}_norm", maps))
      maps = torch.cat([maps, steps.convolve(f"{name}_conv2", inside)], 1)
    if block < 4:
      name = f"transition{block}"
      scaled = steps.scale(f"{name}_norm", maps)
      tap = scaled if f"{name}_norm" == config.feature_tap else None
      maps = torch.nn.functional.avg_pool2d(steps.convolve(f"{name}_conv", scaled), 2)
  return steps.scale("norm5", maps), tap


def time_alternating(passes: dict[str, Callable[[], Any]], runs: int) -> dict[str, list[float]]:
  """Seconds of each pass, `runs` times each, taking turns; both have run once already."""
  seconds: dict[str, list[float]] = {name: [] for name in passes}
  for _ in range(runs):
    for name, run in passes.items():
      started = time.perf_counter()
      run()
      seconds[name].append(time.perf_counter() - started)
  return seconds


def report(seconds: dict[str, list[float]], results: dict[str, list[np.ndarray]], tap: str) -> None:
  """Prints medians and spreads; with a peer, the ratio and the largest differences."""
  medians = {name: statistics.median(values) for name, values in seconds.items()}
  for name, values in seconds.items():
    print(f"{name}: median {medians[name]:.3f} s ({min(values):.3f} .. {max(values):.3f}), {len(values)} runs")
  if "torch" not in seconds:
    return
  print(f"cwf_jax / torch: {medians['cwf_jax'] / medians['torch']:.3f}")
  for name, here, there in zip(("logits", "CAM features", tap), results["cwf_jax"], results["torch"], strict=True):
    print(f"largest difference in {name}: {np.abs(here - there).max() / np.abs(there).max():.1e} of the maximum")


if __name__ == "__main__":
  main()
