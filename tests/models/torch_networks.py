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
    maps = {}
    current = maps["conv1"] = self.bn1(self.conv1(images)).relu_()
    current = maps["pool1"] = self.maxpool(current)
    for stage in range(1, 5):
      for position, block in enumerate(getattr(self, f"layer{stage}")):
        name = f"layer{stage}_{position}"
        maps[f"{name}_conv1"], maps[f"{name}_conv2"], current = block(current)
        maps[name] = current
    maps["logits"] = self.fc(current.mean((2, 3)))
    return maps


class DenseLayer(nn.Module):
  """torchvision's layer of a dense block: it returns the maps after each ReLU, and the channels to add."""

  def __init__(self, channels: int, growth: int):
    super().__init__()
    self.norm1, self.conv1 = nn.BatchNorm2d(channels), _convolve(channels, 4 * growth, 1)
    self.norm2, self.conv2 = nn.BatchNorm2d(4 * growth), _convolve(4 * growth, growth, 3)

  def forward(self, maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """See the class's docstring."""
    first = self.norm1(maps).relu_()
    second = self.norm2(self.conv1(first)).relu_()
    return first, second, self.conv2(second)


class DenseNet(nn.Module):
  """DenseNet-121 by default."""

  def __init__(self, growth: int = 32, depths: Sequence[int] = (6, 12, 24, 16), channels: int = 64, classes: int = 1000):
    super().__init__()
    parts = {"conv0": _convolve(3, channels, 7, 2), "norm0": nn.BatchNorm2d(channels), "pool0": nn.MaxPool2d(3, 2, 1)}
    for block, depth in enumerate(depths, 1):
      dense = {f"denselayer{1 + layer}": DenseLayer(channels + layer * growth, growth) for layer in range(depth)}
      parts[f"denseblock{block}"] = nn.ModuleDict(dense)
      channels += depth * growth
      if block < len(depths):
        transition = {"norm": nn.BatchNorm2d(channels), "conv": _convolve(channels, channels // 2, 1)}
        parts[f"transition{block}"] = nn.ModuleDict(transition)
        channels //= 2
    parts[f"norm{len(depths) + 1}"] = nn.BatchNorm2d(channels)
    self.features = nn.ModuleDict(parts)
    self.classifier = nn.Linear(channels, classes)

  @classmethod
  def densenet161(cls) -> "DenseNet":
    """The largest of the paper's follow-up, as torchvision publishes it."""
    return cls(48, (6, 12, 36, 24), 96)

  def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """See the module's docstring."""
    maps = {}
    current = maps["conv1"] = self.features.norm0(self.features.conv0(images)).relu_()
    current = maps["pool1"] = self.features.pool0(current)
    for block in range(1, 5):
      together = [current]
      for layer, dense in enumerate(self.features[f"denseblock{block}"].values()):
        name = f"block{block}_{layer}"
        maps[f"{name}_norm"], maps[f"{name}_conv1"], added = dense(torch.cat(together, 1))
        together.append(added)
      current = torch.cat(together, 1)
      if block < 4:
        transition = self.features[f"transition{block}"]
        current = maps[f"transition{block}_norm"] = transition.norm(current).relu_()
        current = nn.functional.avg_pool2d(transition.conv(current), 2)
    current = maps["norm5"] = self.features.norm5(current).relu_()
    maps["logits"] = self.classifier(current.mean((2, 3)))
    return maps


class VGG(nn.Module):
  """VGG-16 by default. The classifier runs on each window of 7x7 cells of pool5, of which an image of 224x224 has one."""

  def __init__(self, depths: Sequence[int] = (2, 2, 3, 3, 3), classifier_channels: int = 4096, classes: int = 1000):
    super().__init__()
    steps, channels, self.names = [], 3, []
    for block, (width, depth) in enumerate(zip((64, 128, 256, 512, 512), depths, strict=True), 1):
      for layer in range(1, depth + 1):
        steps += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
        self.names += [None, f"conv{block}_{layer}"]
        channels = width
      steps.append(nn.MaxPool2d(2))
      self.names.append(f"pool{block}")
    self.features = nn.Sequential(*steps)
    sides = [7 * 7 * channels, classifier_channels, classifier_channels, classes]
    first, second, last = (nn.Linear(*pair) for pair in itertools.pairwise(sides))
    self.classifier = nn.Sequential(first, nn.ReLU(), nn.Dropout(), second, nn.ReLU(), nn.Dropout(), last)

  def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """See the module's docstring; fc6 and fc7 lie on pool5's cells, with zeros where a window would not fit."""
    maps, current = {}, images
    for name, step in zip(self.names, self.features, strict=True):
      current = step(current)
      if name is not None:
        maps[name] = current.clone() if name.startswith("conv") else current
    windows = current.unfold(2, 7, 1).unfold(3, 7, 1).permute(0, 2, 3, 1, 4, 5).flatten(3)
    first = self.classifier[:2](windows)
    second = self.classifier[3:5](first)
    for name, values in (("fc6", first), ("fc7", second)):
      maps[name] = nn.functional.pad(values.permute(0, 3, 1, 2), (3, 3, 3, 3))
    maps["logits"] = self.classifier[6](second.mean((1, 2)))
    return maps
