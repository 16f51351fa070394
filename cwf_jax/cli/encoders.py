"""The encoder that a call's flags mean, and whether they agree with an index that is there."""

from absl import flags

from cwf_jax.cli.call import CallError


def make_encoder(values: flags.FlagValues):
  """The encoder of a new index."""
  from cwf_jax.encoder import load_encoder

  return load_encoder(
    values["weights"].value or "default",
    values["protocol"].value or "paper",
    image_size=values["image_size"].value,
    num_classes=values["num_classes"].value or 64,
  )


def check_flags(values: flags.FlagValues, index) -> None:
  """Refuses flags that disagree with an existing index, which decides weights, protocol and sizes itself.

  Raises:
    CallError: with every disagreement, both sides named.
  """
  from cwf_jax.models.checkpoint import load_weights

  settings = index.settings
  problems = []
  weights = values["weights"].value
  if weights is not None and load_weights(weights).sha256 != settings.weights_sha256:
    problems.append(f"--weights={weights}, but it has those of {settings.weights_folder or settings.weights}")
  recorded = {"protocol": "name", "image_size": "image_size", "num_classes": "num_classes"}
  for flag, name in recorded.items():
    asked = values[flag].value
    if asked is not None and asked != settings.protocol[name]:
      problems.append(f"--{flag}={asked}, but its own is {settings.protocol[name]}")
  if problems:
    raise CallError(
      f"the index {index.folder} was made otherwise: {'; '.join(problems)}. Leave the flags out, or name a new --index"
    )
