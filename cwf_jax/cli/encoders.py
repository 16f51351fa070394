"""The encoder that a call's flags mean, and whether they agree with an index that is there."""

from absl import flags

from cwf_jax.cli.call import CallError


def make_encoder(values: flags.FlagValues):
  """The encoder of a new index."""
  from cwf_jax.load import NUM_CLASSES, load_encoder
  from cwf_jax.protocol import STRIDE16

  return load_encoder(
    values["weights"].value or "default",
    values["protocol"].value or "paper",
    image_size=values["image_size"].value,
    num_classes=values["num_classes"].value or NUM_CLASSES,
    feature_map=values["feature_map"].value or STRIDE16,
  )


def agreeing_encoder(values: flags.FlagValues, index, folder_flag: str = "index"):
  """The encoder of `--weights`, if it is given and is the index's own; None means: the one that the index names.

  So an index is used with a copy of its weights where the folder that it names is gone.

  Args:
    values: of the call.
    index: an open one, which decides weights, protocol and sizes itself.
    folder_flag: the flag that would name another index.

  Raises:
    CallError: flags disagree with the index; with every disagreement, both sides named.
  """
  from cwf_jax.load import load_encoder
  from cwf_jax.protocol import STRIDE16, Protocol

  settings = index.settings
  problems, encoder = [], None
  weights = values["weights"].value
  if weights is not None:
    encoder = load_encoder(weights, Protocol.from_json(settings.protocol))
    if encoder.settings.weights_sha256 != settings.weights_sha256:
      problems.append(f"--weights={weights}, but it has those of {settings.weights_folder or settings.weights}")
  recorded = {
    "protocol": (values["protocol"].value, settings.protocol["name"]),
    "image_size": (values["image_size"].value, settings.protocol["image_size"]),
    "feature_map": (values["feature_map"].value, settings.protocol.get("feature_map", STRIDE16)),
    "num_classes": (_at_most(values["num_classes"].value, settings.network_classes), settings.num_classes),
  }
  problems += [f"--{flag}={asked}, but its own is {own}" for flag, (asked, own) in recorded.items() if asked not in (None, own)]
  if problems:
    raise CallError(
      f"the index {index.folder} was made with other settings: {'; '.join(problems)}. Leave the flags out, or name a new "
      f"--{folder_flag}"
    )
  return encoder


def _at_most(asked: int | None, most: int) -> int | None:
  return None if asked is None else min(asked, most)
