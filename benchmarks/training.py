"""How many images a second does a step of training take here, in which form of convolution, and in PyTorch?

  python benchmarks/training.py                                 # labels only, crops of 64, 96 and 128 pixels
  python benchmarks/training.py --forms package,nchw,shifted --sizes 96 --batch_size 32
  python benchmarks/training.py --smoke                         # tiny, to see that it runs

A step is the whole of `cwf_jax.training`: crops out of larger images, forward, backward, AdamW. Forms: "package" is what the
layers choose; "lax" is XLA's convolution, channels last; "nchw" the same, channels first; "shifted" nine shifted products;
"winograd" F(4x4, 3x3) wherever it can be; "window" is "lax" with `reduce_window` for the max-pool. PyTorch (extra `peers`)
trains the same network, with batch norm, channels last, AdamW, on crops that are made beforehand. Each runs by itself, one
after the other, after a warm-up; the allocator keeps freed memory, as the command line has it.
"""

import argparse
import contextlib
import functools
import operator
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cwf_jax.cli import allocator
from cwf_jax.models import layers, registry, winograd
from cwf_jax.training.settings import Schedule, TrainingSettings
from cwf_jax.training.step import prepare, take_step


def convolve_lax(images: jax.Array, kernel: jax.Array) -> jax.Array:
  """XLA's convolution, channels last."""
  return lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def convolve_nchw(images: jax.Array, kernel: jax.Array) -> jax.Array:
  """XLA's convolution, channels first inside."""
  moved = jnp.moveaxis(images, 3, 1)
  return jnp.moveaxis(lax.conv_general_dilated(moved, kernel, (1, 1), "SAME", dimension_numbers=("NCHW", "HWIO", "NCHW")), 1, 3)


def convolve_shifted(images: jax.Array, kernel: jax.Array) -> jax.Array:
  """The sum of nine products over the channels of shifted images."""
  height, width = images.shape[1:3]
  padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
  terms = [padded[:, i : i + height, j : j + width] @ kernel[i, j] for i in range(3) for j in range(3)]
  return functools.reduce(operator.add, terms)


def pool_window(images: jax.Array) -> jax.Array:
  """XLA's `reduce_window`."""
  return lax.reduce_window(images, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


FORMS: dict[str, dict[str, Callable]] = {
  "package": {},
  "lax": {"convolve_3x3": convolve_lax},
  "nchw": {"convolve_3x3": convolve_nchw},
  "shifted": {"convolve_3x3": convolve_shifted},
  "winograd": {"convolve_3x3": winograd.convolve},
  "window": {"convolve_3x3": convolve_lax, "max_pool_2x2": pool_window},
}
"""What each form puts in the place of the layers' functions."""


def main(arguments: list[str] | None = None) -> None:
  """Prints a line for each form and size."""
  options = parse(arguments)
  print(f"allocator keeps freed memory: {allocator.keep_freed_memory()}")
  print(f"{options.network}, batches of {options.batch_size}, float32, {jax.default_backend()}, {options.runs} steps")
  for size in options.sizes:
    for form in options.forms:
      with replace_functions(FORMS[form]):
        report(form, size, options.batch_size, *time_steps(jax_steps(options, size), options.runs))
    try:
      steps = torch_steps(options, size)
    except ImportError:
      print("torch: not installed, not compared; it is in the extra `peers` (pip install 'cwf_jax[peers]')")
    else:
      report("torch", size, options.batch_size, *time_steps(steps, options.runs))


def parse(arguments: list[str] | None) -> argparse.Namespace:
  """The command line's options; `--smoke` overrides network, sizes, batch and runs."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--network", default="vgg16_cam_small", choices=registry.network_names())
  parser.add_argument("--sizes", default="64,96,128", help="pixels a side of the crops, separated by commas")
  parser.add_argument("--forms", default="package", help=f"of {', '.join(FORMS)}, separated by commas")
  parser.add_argument("--batch_size", type=int, default=32)
  parser.add_argument("--runs", type=int, default=7)
  parser.add_argument("--smoke", action="store_true", help="a tiny size and two steps")
  options = parser.parse_args(arguments)
  if options.smoke:
    options.network, options.sizes, options.batch_size, options.runs = "vgg16_cam_quarter", "32", 2, 2
  options.sizes = [int(size) for size in options.sizes.split(",")]
  options.forms = options.forms.split(",")
  unknown = [form for form in options.forms if form not in FORMS]
  if unknown:
    parser.error(f"no form is named {', '.join(unknown)}; there are {', '.join(FORMS)}")
  return options


def replace_functions(replaced: dict[str, Callable]) -> Any:
  """A context in which the layers use other functions, and nothing compiled before is taken for theirs."""
  jax.clear_caches()
  return mock.patch.multiple(layers, **replaced) if replaced else contextlib.nullcontext()


def jax_steps(options: argparse.Namespace, size: int) -> Iterator[Any]:
  """Steps of this package, without end."""
  settings = TrainingSettings(Schedule(((size, 10**6),)), batch_size=options.batch_size)
  method, state = prepare(registry.build(options.network), settings)
  generator = np.random.default_rng(0)
  images = generator.integers(0, 256, (options.batch_size, 160, 160, 3), np.uint8)
  sizes = np.full((options.batch_size, 2), 160, np.int32)
  labels = generator.integers(0, 1000, options.batch_size).astype(np.int32)
  while True:
    state, metrics = take_step(method, state, None, images, sizes, labels, side=size)
    yield jax.block_until_ready(metrics)


def torch_steps(options: argparse.Namespace, size: int) -> Iterator[Any]:
  """Steps of the same network in PyTorch, without end."""
  import torch

  config = registry.find_network(options.network).config
  modules, channels = [], 3
  for block, (width, depth) in enumerate(zip(config.widths, config.depths, strict=True)):
    for width_out in (width,) * depth:
      modules += convolution_torch(torch, channels, width_out)
      channels = width_out
    modules += [torch.nn.MaxPool2d(2)] if block < len(config.depths) - 1 else []
  modules += convolution_torch(torch, channels, config.cam_channels)
  modules += [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(config.cam_channels, config.num_classes)]
  network = torch.nn.Sequential(*modules).to(memory_format=torch.channels_last)
  optimizer = torch.optim.AdamW(network.parameters(), 2e-3)
  images = torch.rand(options.batch_size, 3, size, size).contiguous(memory_format=torch.channels_last)
  labels = torch.randint(0, config.num_classes, (options.batch_size,))

  def steps() -> Iterator[Any]:
    while True:
      optimizer.zero_grad(set_to_none=True)
      loss = torch.nn.functional.cross_entropy(network(images), labels)
      loss.backward()
      optimizer.step()
      yield loss.item()

  return steps()


def convolution_torch(torch: Any, channels_in: int, channels_out: int) -> list[Any]:
  """Convolution, batch norm, ReLU."""
  convolution = torch.nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
  return [convolution, torch.nn.BatchNorm2d(channels_out), torch.nn.ReLU(inplace=True)]


def time_steps(steps: Iterator[Any], runs: int) -> tuple[float, list[float]]:
  """Seconds of the first step, and of `runs` steps after a second one."""
  seconds = []
  for _ in range(runs + 2):
    started = time.perf_counter()
    next(steps)
    seconds.append(time.perf_counter() - started)
  return seconds[0], seconds[2:]


def report(name: str, size: int, batch_size: int, first: float, seconds: list[float]) -> None:
  """Prints the median and the spread."""
  rates = sorted(batch_size / one for one in seconds)
  print(
    f"{size} px, {name}: median {statistics.median(rates):.1f} images/s ({rates[0]:.1f} .. {rates[-1]:.1f}); "
    f"first step {first:.1f} s",
    flush=True,
  )


if __name__ == "__main__":
  main()
