"""The peers in PyTorch: networks with the structure of torchvision's, and its names in their state dicts.

torchvision itself is not needed. A call returns a dictionary of maps [b c h w] under our tap names, and "logits".
"""

import itertools
from collections.abc import Sequence

import torch
from torch import nn


def _convolve(channels: int, out: int, size: int, stride: int = 1) -> nn.Conv2d:
  return nn.Conv2d(channels, out, size, stride, size // 2, bias=False)


class Bottleneck(nn.Module):
  """torchvision's block: the stride is in the 3x3 convolution."""

  def __init__(self, channels: int, inside: int, out: int, stride: int):
    super().__init__()
    self.conv1, self.bn1 = _convolve(channels, inside, 1), nn.BatchNorm2d(inside)
    self.conv2, self.bn2 = _convolve(inside, inside, 3, stride), nn.BatchNorm2d(inside)
    self.conv3, self.bn3 = _convolve(inside, out, 1), nn.BatchNorm2d(out)
    if channels != out or stride != 1:
      self.downsample = nn.Sequential(_convolve(channels, out, 1, stride), nn.BatchNorm2d(out))

  def forward(self, maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The maps after each ReLU; the last one is the block's output."""
    first = self.bn1(self.conv1(maps)).relu_()
    second = self.bn2(self.conv2(first)).relu_()
    shortcut = self.downsample(maps) if hasattr(self, "downsample") else maps
    return first, second, (self.bn3(self.conv3(second)) + shortcut).relu_()


class ResNet(nn.Module):
  """ResNet-50 by default."""

  def __init__(self, widths: Sequence[int] = (64, 128, 256, 512), depths: Sequence[int] = (3, 4, 6, 3), classes: int = 1000):
    super().__init__()
    self.conv1, self.bn1 = _convolve(3, widths[0], 7, 2), nn.BatchNorm2d(widths[0])
    self.maxpool, channels = nn.MaxPool2d(3, 2, 1), widths[0]
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True), 1):
      blocks = []
      for position in range(depth):
        blocks.append(Bottleneck(channels, width, 4 * width, 2 if stage > 1 and position == 0 else 1))
        channels = 4 * width
      setattr(self, f"layer{stage}", nn.Sequential(*blocks))
    self.fc = nn.Linear(channels, classes)

  def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """See the module's docstring."""
    maps = {"conv1": self.bn1(self.conv1(images)).relu_()}
    current = maps["pool1"] = self.maxpool(maps["conv1"])
    for stage in itertools.count(1):
      if not hasattr(self, f"layer{stage}"):
        break
      for position, block in enumerate(getattr(self, f"layer{stage}")):
        name = f"layer{stage}_{position}"
        maps[f"{name}_conv1"], maps[f"{name}_conv2"], current = block(current)
        maps[name] = current
    maps["logits"] = self.fc(current.mean((2, 3)))
    return maps
