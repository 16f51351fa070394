"""What a training run depends on besides its data: a frozen dataclass that is recorded with the run."""

import dataclasses
from typing import Any

from cwf_jax.errors import InputError

MULTIPLE = 32
"""Crops have sides that are multiples of this, so that every network has whole cells."""


@dataclasses.dataclass(frozen=True)
class Schedule:
  """How many steps are taken at which size of crops, in order.

  Attributes:
    phases: (pixels a side, steps) of each phase.
  """

  phases: tuple[tuple[int, int], ...]

  @classmethod
  def parse(cls, text: str) -> "Schedule":
    """Reads "96:3000,128:2400": 3000 steps with crops of 96 pixels a side, then 2400 of 128.

    Raises:
      InputError: not of this form, a size that is no multiple of 32, or a phase without steps.
    """
    try:
      phases = tuple((int(size), int(steps)) for size, steps in (part.split(":") for part in text.split(",")))
    except ValueError:
      raise InputError(f"a schedule is SIZE:STEPS,SIZE:STEPS and so on, as in 96:3000,128:2400; found {text!r}") from None
    for size, steps in phases:
      if size < MULTIPLE or size % MULTIPLE:
        raise InputError(f"sizes of crops are multiples of {MULTIPLE} pixels; found {size} in the schedule {text!r}")
      if steps < 1:
        raise InputError(f"a phase has at least one step; found {steps} in the schedule {text!r}")
    return cls(phases)

  @property
  def steps(self) -> int:
    """Of all phases."""
    return sum(steps for _, steps in self.phases)

  def size(self, step: int) -> int:
    """Pixels a side of the crops of a step, counted from 0."""
    for size, steps in self.phases:
      if step < steps:
        return size
      step -= steps
    raise IndexError(f"the schedule has {self.steps} steps")

  @property
  def last_steps(self) -> tuple[int, ...]:
    """The number of steps taken when each phase ends."""
    ends, total = [], 0
    for _, steps in self.phases:
      total += steps
      ends.append(total)
    return tuple(ends)


@dataclasses.dataclass(frozen=True)
class TrainingSettings:
  """The settings of a run.

  Attributes:
    schedule: sizes and steps.
    batch_size: crops in a step, over all devices.
    learning_rate: the highest, after the warm-up; it falls to zero on a cosine.
    warmup: steps in which it rises from zero.
    weight_decay: of kernels, decoupled (AdamW).
    seed: of initial weights, order of images and augmentation.
    frozen: only the CAM convolution and the classifier are trained, as VGG-16 was adapted by Zhou et al. 2016.
    area: least and largest part of an image's area that a crop takes.
    aspect: least and largest width / height of a crop, before it is made square.
    jitter: brightness, contrast and saturation are multiplied by 1 - jitter to 1 + jitter.
    mosaic: share of crops that are four crops of half the side, next to each other.
    feature_weight: of the loss between feature maps, cell by cell; distillation only.
    cam_weight: of the loss between CAM features, cell by cell; distillation only.
    teacher_scale: the teacher sees each crop so many times as large as the student. At the sizes that a student can be
      trained at quickly, a teacher of full-size photographs is sure of the wrong classes.
    dtype: of the convolutions.
  """

  schedule: Schedule
  batch_size: int = 32
  learning_rate: float = 2e-3
  warmup: int = 200
  weight_decay: float = 0.05
  seed: int = 0
  frozen: bool = False
  area: tuple[float, float] = (0.15, 1.0)
  aspect: tuple[float, float] = (0.75, 4 / 3)
  jitter: float = 0.3
  mosaic: float = 0.0
  feature_weight: float = 4.0
  cam_weight: float = 4.0
  teacher_scale: int = 1
  dtype: str = "float32"

  def __post_init__(self):
    problems = [
      f"{name} is {wanted}, not {getattr(self, name)!r}"
      for name, holds, wanted in (
        ("batch_size", self.batch_size >= 2, "at least 2, since batch norm compares crops"),
        ("learning_rate", self.learning_rate > 0, "more than 0"),
        ("warmup", self.warmup >= 0, "at least 0"),
        ("weight_decay", self.weight_decay >= 0, "at least 0"),
        ("area", 0 < self.area[0] <= self.area[1] <= 1, "two shares in order, more than 0 and at most 1"),
        ("aspect", 0 < self.aspect[0] <= self.aspect[1], "two ratios in order, more than 0"),
        ("jitter", 0 <= self.jitter < 1, "at least 0 and less than 1"),
        ("mosaic", 0 <= self.mosaic <= 1, "from 0 to 1"),
        ("teacher_scale", self.teacher_scale >= 1, "at least 1"),
        ("dtype", self.dtype in ("float32", "bfloat16"), "float32 or bfloat16"),
      )
      if not holds
    ]
    if problems:
      raise InputError("; ".join(problems))

  def to_json(self) -> dict[str, Any]:
    """As plain values."""
    return dataclasses.asdict(self)
