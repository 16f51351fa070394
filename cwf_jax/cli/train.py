"""`--mode=train`: a network for classes of one's own, or a small one that learns from a large one."""

import math
import os
from pathlib import Path

from absl import flags

from cwf_jax.cli.call import CallError, FailedError
from cwf_jax.errors import printable

EXAMPLES = """
  python main.py --mode=train --data=products --weights=default --output=products.weights
  python main.py --mode=train --data=products --weights=default --freeze_backbone --output=my
  python main.py --mode=train --data=imagenet.tar --schedule=96:20000,128:20000 --output=my.weights
  python main.py --mode=train --data=a,b.tar --mix=1,2 --teacher=mobilenet_v2 --output=my.weights
  python main.py --mode=train --data=products --output=products.weights --resume

Data: a folder or a tar of class folders, as they are or under train/ and val/, or tfds:NAME. It
starts from --weights, or from random weights of --network; with --teacher it learns the teacher's
probabilities and, cell by cell, its maps, and the folders' names do not matter. It ends with the
accuracy on val/, a whitening fitted on the same images, and a checkpoint for --weights. A step
takes --batch_size crops, 32 by default. The run is kept in OUTPUT.run: --resume, with the same
flags, goes on after a kill.
"""

WITHOUT = ("index", "protocol", "num_classes", "feature_map")
"""Flags of all modes that this one has no use for."""


def define_flags(values: flags.FlagValues) -> None:
  """The flags of this mode."""
  text, number, real = flags.DEFINE_string, flags.DEFINE_integer, flags.DEFINE_float
  text("data", None, "folders, tars or tfds:NAME, separated by commas", flag_values=values)
  text("mix", None, "share of each of --data, as in 1,2; default: by their numbers of images", flag_values=values)
  text("output", None, "the checkpoint's folder; it must not be there yet", flag_values=values)
  text("network", "vgg16_cam_small", "of random weights, where --weights is not given", flag_values=values)
  text("teacher", None, "weights of the network to learn from: a checkpoint's name or folder", flag_values=values)
  number("teacher_scale", 2, "the teacher sees crops so many times as large", lower_bound=1, upper_bound=8, flag_values=values)
  flags.DEFINE_boolean(
    "freeze_backbone", False, "train the CAM convolution and the classifier only; needs --weights", flag_values=values
  )
  flags.DEFINE_boolean("resume", False, "go on with the run in OUTPUT.run", flag_values=values)
  text(
    "schedule", "96:2400,128:2200,192:450", "pixels a side of the crops and steps taken with them: SIZE:STEPS,SIZE:STEPS",
    flag_values=values,
  )  # fmt: skip
  real(
    "learning_rate", None, "the highest one; default: 0.002 from random weights, 0.0001 from --weights, 0.001 with a "
    "frozen backbone", lower_bound=0.0, flag_values=values,
  )  # fmt: skip
  number("warmup", 200, "steps in which it rises", lower_bound=0, flag_values=values)
  real("weight_decay", 0.05, "of kernels (AdamW)", lower_bound=0.0, flag_values=values)
  real("mosaic", 0.0, "share of crops that are four small ones", lower_bound=0.0, upper_bound=1.0, flag_values=values)
  real("least_area", 0.15, "the least part of an image in a crop", lower_bound=0.01, upper_bound=1.0, flag_values=values)
  number("canvas", 320, "images are held with their longer side at most so long", lower_bound=32, flag_values=values)
  number("n_pca", 1, "classes of each image that the whitening is fitted on", lower_bound=1, flag_values=values)
  number("whitening_images", 2000, "images that the whitening is fitted on, at most", lower_bound=2, flag_values=values)
  flags.DEFINE_enum("stored", "float16", ["float16", "float32"], "how the checkpoint holds parameters", flag_values=values)
  number("seed", 0, "of everything that is random", lower_bound=0, flag_values=values)


def run(values: flags.FlagValues, console) -> int:
  """Runs the mode: a line about the checkpoint goes to standard output."""
  for flag in ("data", "output"):
    if not values[flag].value:
      raise CallError(f"--mode=train needs --{flag}=PATH; --mode=train --help shows examples")
  output = Path(values["output"].value).expanduser()
  if os.path.lexists(output):
    raise CallError(f"--output={printable(output)} is there already; name another folder or remove it")
  if values["freeze_backbone"].value and not values["weights"].value:
    raise CallError("--freeze_backbone needs --weights: a backbone of random weights has nothing to keep")
  if values["mosaic"].value and not values["teacher"].value:
    raise CallError("--mosaic needs --teacher: four images in one have no label")
  if values["teacher_scale"].present and not values["teacher"].value:
    raise CallError("--teacher_scale needs --teacher")
  from cwf_jax.cli.training_plan import make_plan
  from cwf_jax.models.checkpoint import save_checkpoint

  plan = make_plan(values, console)
  for remark in plan.remarks():
    console.say(remark)
  folder = output.with_name(output.name + ".run")
  network, history = _train(plan, folder, values["resume"].value, console)
  for one in plan.mixture.skipped:
    console.say(f"skipped {printable(one.id)}: {one.reason}")
  whitening, count = _fit_whitening(plan, network, values, console)
  save_checkpoint(
    output,
    network,
    network_name=plan.network_name,
    classes=plan.classes,
    whitening=whitening,
    metadata={"training": plan.description, "whitening_vectors": count, "history": _ends(plan, history)},
    stored=values["stored"].value,
  )
  size = sum(file.stat().st_size for file in output.rglob("*") if file.is_file())
  last = next((line for line in reversed(history) if "validation_top1" in line), None)
  accuracy = f", {last['validation_top1']:.3f} of the validation images right" if last else ""
  console.say(f"all metrics: {printable(folder)}, which may be removed")
  print(f"{printable(output)}: {plan.network_name}, {len(plan.classes)} classes, {size / 1e6:.1f} MB{accuracy}")
  return 0


def _train(plan, folder: Path, resume: bool, console):
  """The trained network, finished, and the lines of its metrics."""
  from cwf_jax.training import step
  from cwf_jax.training.finish import finish, measure_accuracy
  from cwf_jax.training.loop import Run, train

  def validate(trained) -> dict[str, float]:
    batches = plan.validation_batches()
    found = measure_accuracy(finish(trained, plan.network_name), batches, plan.settings.schedule.phases[-1][0])
    return {f"validation_{name}": value for name, value in found.items() if not math.isnan(value)}  # no image has a label

  teacher = None if plan.teacher is None else plan.teacher.network
  method, state = step.prepare(plan.network, plan.settings, teacher, plan.from_scratch)
  run = Run(folder, plan.description, resume)
  try:
    with console.progress("steps", start=run.last_step) as progress:
      trained = train(
        method,
        state,
        lambda number: plan.mixture.batches(plan.settings.batch_size, number),
        run,
        teacher=teacher,
        validate=validate if plan.has_validation else None,
        tell=lambda told: progress(told.step, told.steps, note=_note(told.metrics)),
      )
  except FloatingPointError as error:
    raise FailedError(str(error)) from None
  except KeyboardInterrupt:
    console.say(f"the run is kept in {printable(folder)}; the same command with --resume goes on from there")
    raise
  finally:
    run.close()
  return finish(trained, plan.network_name), run.metrics()


def _ends(plan, history: list[dict]) -> list[dict]:
  """The lines at the end of each phase; all of them stay with the run."""
  return [line for line in history if line["step"] in plan.settings.schedule.last_steps]


def _note(metrics) -> str:
  return (
    f"loss {metrics['loss']:.3f}, accuracy {metrics['accuracy']:.3f}, rate {metrics['learning_rate']:.2g}, "
    f"{metrics['images_per_second']:.0f} images/s at {metrics['size']} px"
  )


def _fit_whitening(plan, network, values: flags.FlagValues, console):
  """The whitening's arrays, and the number of vectors that it was fitted on; None and 0 where there are too few.

  Where the features are still those of the checkpoint that it started from, its whitening stays if it keeps more dimensions.
  Images that are enlarged more than twice lack the detail that a photograph has at that size; they are taken only where
  there are too few others.
  """
  import numpy as np

  from cwf_jax.images.canvases import fit_image
  from cwf_jax.ops.whitening import TooFewVectorsError
  from cwf_jax.runtime import default_batch_size
  from cwf_jax.training.finish import fit_own_whitening

  encoder = plan.make_encoder(network)
  protocol, batch_size = encoder.settings.protocol, default_batch_size(encoder.settings.protocol)
  images = min(values["whitening_images"].value, sum(len(pool) for pool in plan.mixture.pools))

  def fit(least_side: float):
    with console.progress("images for the whitening") as progress:

      def large_enough():
        for done, pixels in enumerate(plan.mixture.sample(images, plan.settings.seed), 1):
          progress(done, images)
          if min(pixels.shape[:2]) >= least_side:
            yield fit_image(pixels, protocol)

      return fit_own_whitening(encoder, large_enough(), values["n_pca"].value, batch_size)

  whitening, count, reason = None, 0, ""
  try:
    whitening, count = fit(protocol.image_size / 2)
    if whitening.projection.shape[1] < network.config.feature_channels:
      raise TooFewVectorsError
  except TooFewVectorsError:
    try:
      whitening, count = fit(0)
    except TooFewVectorsError as error:
      reason = str(error)
  before = plan.whitening
  kept = 0 if whitening is None else whitening.projection.shape[1]
  if before is not None and before["projection"].shape[1] > kept:
    console.say(f"the whitening is that of {values['weights'].value}: {count} vectors of these images bear {kept} dimensions")
    return before, 0
  if whitening is None:
    console.say(f"the checkpoint has no whitening: {reason}")
    return None, 0
  console.say(f"whitening: {kept} of {network.config.feature_channels} dimensions, fitted on {count} vectors")
  return {"mean": np.asarray(whitening.mean), "projection": np.asarray(whitening.projection)}, count
