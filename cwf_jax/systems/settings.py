"""The settings of an evaluation: what the paper says, what its published code does, and one name for each difference.

    settings = Settings.preset("reference", {"ties": "shuffled"})
    settings.changes()    # {"ties": "shuffled"}: what differs from the preset

Every row of METHOD 7 where code and paper differ up to the first ranking is a setting here. Those of region re-ranking
(METHOD 7.5 to 7.7, 7.10, 7.18 and 7.19) come with it. METHOD 7.9 is `Protocol.expand_with_query`, and METHOD 7.13 is a matter
of how weights are converted, which a checkpoint records.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from cwf_jax.errors import InputError, near
from cwf_jax.ops.whitening import EIGENVALUE_FLOOR
from cwf_jax.protocol import Protocol

PRESETS = ("paper", "reference")

PUBLISHED_SIZE = 720
"""The paper's shorter side; the sizes of the other systems are in proportion to it."""


def _setting(meaning: str, paper: Any, reference: Any, row: str, acts: str, choices: tuple = ()) -> Any:
  metadata = {"meaning": meaning, "reference": reference, "row": row, "acts": acts, "choices": choices}
  return dataclasses.field(default=paper, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Settings:
  """One attribute a difference; its meaning and the row of METHOD 7 are in its field's metadata."""

  preset_name: str
  size_rule: str = _setting(
    "shorter_side: the shorter side becomes --image_size pixels (720 in the paper), aspect kept; fixed_frame: stretched to "
    "a frame of that shorter side, 1024x720 or 720x1024 in the paper",
    *("shorter_side", "fixed_frame", "2, 8", "sizes", ("shorter_side", "fixed_frame")),
  )
  reversed_means: bool = _setting(
    "the means of the channels are subtracted in reversed order, so that blue loses red's", False, True, "1", "sizes"
  )
  query_images: str = _setting(
    "pixels of database images that are queries, too, in the paper's own systems: as_any; stretched: their contrast to 0-255",
    *("as_any", "stretched", "17", "pixels", ("as_any", "stretched")),
  )
  empty_maps: str = _setting(
    "a CAM without a positive value: no_vector: has no vector; divided: is divided by its maximum before its ReLU, and where "
    "that is no number the vector of the class before it stands for it",
    *("no_vector", "divided", "11", "vectors", ("no_vector", "divided")),
  )
  crow_weights: str = _setting(
    "crow is weighted by cells and channels as its authors have it, or by channels alone, as the paper's comparison",
    *("cells_and_channels", "channels", "0", "vectors", ("cells_and_channels", "channels")),
  )
  crow_epsilon: float = _setting(
    "crow's channel weights: log((K e + sum Q) / (e + Q_k)); 0: equations 2 and 3 of the paper", 0.0, 0.0, "2b", "vectors"
  )
  box_rule: str = _setting(
    "a query's box on the cells: scaled with the image; unscaled: its pixels in the original divided by 16",
    *("scaled", "unscaled", "3", "queries", ("scaled", "unscaled")),
  )
  floor_boxes: bool = _setting("the sides of a query's box are floored to whole pixels first", True, True, "16", "queries")
  crow_box: str = _setting(
    "how crow and ucrow read the box of a query in the database: as its corners; size: the last two as width and height",
    *("corners", "size", "0", "queries", ("corners", "size")),
  )
  spoc_query: str = _setting(
    "spoc's query: box: its box alone; image: the whole image", "box", "box", "2b", "queries", ("box", "image")
  )
  num_classes: int = _setting("classes whose vectors a descriptor sums", 64, 64, "", "descriptors")
  fixed_classes: int = _setting(
    "classes of the fixed list: those most often predicted over the queries", 16, 16, "", "descriptors"
  )
  n_pca: int = _setting("class vectors of each image that the whitening is fitted on", 1, 1, "", "descriptors")
  dimensions: int = _setting(
    "dimensions that a whitening keeps, at most; 0: as published for the system, else 512, and all of the checkpoint's own",
    *(0, 0, "", "descriptors"),
  )
  eigenvalue_floor: float = _setting(
    "no eigenvalue of a whitening counts as less than this part of the largest", EIGENVALUE_FLOOR, 0.0, "14", "descriptors"
  )
  query_row: str = _setting(
    "the row of a query's own image in the database: kept: stays as it is; replaced: by the query's descriptor",
    *("kept", "replaced", "15", "ranking", ("kept", "replaced")),
  )
  ties: str = _setting(
    "equal scores come in a shuffled order of the database (a seeded one), or by_row, or reversed: the last row first",
    *("shuffled", "reversed", "12", "ranking", ("shuffled", "by_row", "reversed")),
  )
  seed: int = _setting("of the shuffled order and of the bootstrap", 0, 0, "", "ranking")

  @classmethod
  def preset(cls, name: str, overrides: Mapping[str, Any] | None = None) -> "Settings":
    """The preset of that name, with some settings changed.

    Args:
      name: "paper" or "reference".
      overrides: by setting, values of its type or texts of them.

    Raises:
      InputError: there is no such preset, or settings that are unknown or out of range: all of them are named.
    """
    if name not in PRESETS:
      raise InputError(f"no preset named {name!r}; there are {', '.join(PRESETS)}")
    fields = {field.name: field for field in list_settings()}
    values = {} if name == "paper" else {field.name: field.metadata["reference"] for field in fields.values()}
    problems = []
    for setting, value in (overrides or {}).items():
      if setting not in fields:
        problems.append(f"there is no setting {setting!r} (there are {', '.join(fields)}){near(setting, fields)}")
        continue
      try:
        values[setting] = _read(fields[setting], value)
      except ValueError as error:
        problems.append(f"{setting} is {error}; found {value!r}")
    if problems:
      raise InputError("; ".join(problems))
    return cls(name, **values)

  def changes(self) -> dict[str, Any]:
    """The settings that differ from the preset's."""
    preset = Settings.preset(self.preset_name)
    return {name: value for name, value in self.to_json().items() if getattr(preset, name) != value}

  def to_json(self) -> dict[str, Any]:
    """Every setting by its name."""
    return {field.name: getattr(self, field.name) for field in list_settings()}

  def acting_on(self, *parts: str) -> dict[str, Any]:
    """Those that act on "sizes", "pixels", "vectors", "queries", "descriptors" or "ranking"."""
    return {field.name: getattr(self, field.name) for field in list_settings() if field.metadata["acts"] in parts}

  def only(self, names: Iterable[str]) -> "SomeSettings":
    """These settings and no others: what depends on them alone is the same for more presets."""
    return SomeSettings(tuple((name, getattr(self, name)) for name in sorted(set(names))))

  def protocol(self, image_size: int) -> Protocol:
    """Sizes and boxes of the systems of METHOD 2."""
    return Protocol(
      self.preset_name, self.size_rule, image_size, self.num_classes, self.box_rule, self.reversed_means
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class SomeSettings:
  """The settings that something depends on, as attributes; another one is an error, and not silently the paper's.

  Attributes:
    values: (name, value) of each, in order.
  """

  values: tuple[tuple[str, Any], ...]

  def only(self, names: Iterable[str]) -> "SomeSettings":
    """Fewer of them."""
    return SomeSettings(tuple((name, getattr(self, name)) for name in sorted(set(names))))

  def __getattr__(self, name: str) -> Any:
    """The value of a setting."""
    for setting, value in self.__dict__.get("values", ()):
      if setting == name:
        return value
    there = ", ".join(setting for setting, _ in self.__dict__.get("values", ())) or "none"
    raise AttributeError(f"the setting {name!r} is not among those that the system names in `vary` ({there})")


def system_settings(preset: str, num_classes: int) -> Settings:
  """The settings of an index's system."""
  return Settings.preset(preset, {"num_classes": num_classes})


def list_settings() -> tuple[dataclasses.Field, ...]:
  """The settings in order: `name`, `default` (the paper's) and `metadata` (meaning, reference, row, acts, choices)."""
  return dataclasses.fields(Settings)[1:]


def _read(field: dataclasses.Field, value: Any) -> Any:
  """A value of a setting's type; a ValueError says what it should be."""
  kind, choices = type(field.default), field.metadata["choices"]
  if choices:
    if value not in choices:
      raise ValueError(f"one of {', '.join(choices)}")
    return value
  if kind is bool:
    known = {"true": True, "false": False}
    if not isinstance(value, bool) and str(value).lower() not in known:
      raise ValueError("true or false")
    return value if isinstance(value, bool) else known[str(value).lower()]
  least = 0 if field.name in ("dimensions", "seed") or kind is float else 1
  name = "a whole number" if kind is int else "a number"
  try:
    read = kind(value)
  except (TypeError, ValueError):
    raise ValueError(f"{name} of at least {least}") from None
  if not least <= read < 2**31 or (isinstance(value, float) and read != value):
    raise ValueError(f"{name} of at least {least}")
  return read
