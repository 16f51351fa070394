"""What an evaluation is asked for: the flags of a call, checked as far as that can be done before anything is read."""

from pathlib import Path

from absl import flags

from cwf_jax.cli.call import CallError
from cwf_jax.cli.evaluation_data import FOLDER, TOYS
from cwf_jax.errors import InputError, near, printable


def check_call(values: flags.FlagValues):
  """The systems and the settings that are asked for; all that is wrong with the flags alone is told at once."""
  names, problems = _choose_systems(values["systems"].value)
  if values["classes"].value is not None and "fixed" not in names:
    problems.append("--classes is for the system fixed, which --systems leaves out")
  problems = [*_list_wrong_paths(values), *problems]
  settings, wrong = _choose_settings(values)
  if problems or wrong:
    raise CallError("; ".join([*problems, *wrong]))
  return names, settings


def _list_wrong_paths(values: flags.FlagValues) -> list[str]:
  from cwf_jax.datasets.catalogue import KNOWN

  dataset, output, problems = values["dataset"].value, values["output"].value, []
  sets = [name for name, known in KNOWN.items() if known.groundtruth != "none"]
  if not dataset:
    problems.append("--dataset is missing, the set to rank: oxford5k, toy_oxford, folder ... (--help tells more)")
  elif dataset != FOLDER and dataset not in sets:
    known = f"{KNOWN[dataset].title} has no queries of its own, it is added to other sets" if dataset in KNOWN else ""
    known = known or f"no data set is named {printable(dataset)}{near(dataset, [*sets, FOLDER])}"
    problems.append(f"{known} (--dataset takes {', '.join(sets)} and {FOLDER})")
  if not output:
    problems.append("--output is missing, the folder for the results")
  given = {name: values[name].value for name in ("images", "groundtruth")}
  if dataset == FOLDER and None in given.values():
    problems.append("--dataset=folder needs --images and --groundtruth")
  if dataset in sets and any(given.values()):
    problems.append("--images and --groundtruth are for --dataset=folder")
  names = ("data_dir", "images", "groundtruth", "vectors", "whitening", "against", "classes")
  problems += [f"--{name} is empty" for name in names if values[name].value == ""]
  data_dir = values["data_dir"].value
  if dataset in sets and dataset not in TOYS and data_dir is None:
    problems.append(f"--data_dir is missing, the folder that holds {printable(dataset)}/")
  if data_dir is not None and not Path(data_dir).is_dir():
    problems.append(f"--data_dir={printable(data_dir)} is no folder that is there")
  for name in ("output", "vectors"):
    problems += _list_wrong_folder(name, values[name].value)
  whitening = values["whitening"].value
  are_made = dataset in TOYS and whitening in TOYS
  if whitening in KNOWN and data_dir is None and not are_made and not Path(whitening).exists():
    problems.append(f"--whitening={whitening} is a set, which needs --data_dir, the folder that holds it")
  itself = (FOLDER,) if dataset == FOLDER else ()
  if whitening not in ("other", "bundled", "none", *itself, *KNOWN) and not Path(whitening).exists():
    known = "other, bundled, none, a set's name"
    alike = near(whitening, ["other", "bundled", "none", *itself, *KNOWN])
    problems.append(f"--whitening={printable(whitening)} is neither {known} nor a path that is there{alike}")
  against = values["against"].value
  if against and output and Path(against).resolve() == Path(output).resolve():
    problems.append("--against is the --output folder itself: give one of them another folder")
  return problems


def _list_wrong_folder(name: str, given: str | None) -> list[str]:
  """What keeps a flag's value from being a folder, or becoming one."""
  if not given:
    return []
  path = Path(given).absolute()
  there = next(one for one in (path, *path.parents) if one.exists())
  if there.is_dir():
    return []
  what = "is a file, not a folder" if there == path else f"cannot be a folder: {printable(there)} is a file"
  return [f"--{name}={printable(given)} {what}"]


def _choose_systems(asked: str) -> tuple[tuple[str, ...], list[str]]:
  """The names, and what is wrong with them."""
  from cwf_jax.reporting.published import TABLES
  from cwf_jax.systems.system import SYSTEMS

  given = [name.strip() for name in asked.split(",")]
  names = tuple(SYSTEMS) if asked == "all" else tuple(dict.fromkeys(name for name in given if name))
  later = {line.system for table in TABLES for line in table.lines if line.later}
  problems = [f"--systems={name}: the report has this row, but this version cannot run it" for name in names if name in later]
  unknown = [name for name in names if name not in SYSTEMS and name not in later]
  if unknown:
    alike = "".join(near(name, SYSTEMS) for name in unknown)
    problems.append(f"--systems knows no {', '.join(map(printable, unknown))}; there are {', '.join(SYSTEMS)}{alike}")
  if not names:
    problems.append(f"--systems names none; there are {', '.join(SYSTEMS)}")
  return names, problems


def _choose_settings(values: flags.FlagValues):
  """The settings, and what is wrong with those that were given."""
  from cwf_jax.systems.settings import Settings

  overrides, problems = {}, []
  for text in values["set"].value:
    name, sign, value = text.partition("=")
    name, value = name.strip(), value.strip()
    if not sign:
      problems.append(f"--set is NAME=VALUE; found {text!r}")
    elif overrides.setdefault(name, value) != value:
      problems.append(f"--set={name} is given twice: {overrides[name]} and {value}")
  for name in ("num_classes", "dimensions"):
    count = values[name].value
    if count is not None and overrides.setdefault(name, count) not in (count, str(count)):
      problems.append(f"--{name}={count} and --set={name}={overrides[name]} differ; give one of them")
  try:
    return Settings.preset(values["protocol"].value or "paper", overrides), problems
  except InputError as error:
    return None, [*problems, str(error)]


def check_classes(settings, count: int) -> None:
  """Refuses to be asked for more classes than the network has; what a preset says beyond them is all of them."""
  asked = [f"{name}={settings.changes().get(name, 0)}" for name in ("num_classes", "fixed_classes", "n_pca")]
  beyond = [text for text in asked if int(text.partition("=")[2]) > count]
  if beyond:
    raise CallError(f"the network has {count} classes; {' and '.join(beyond)} asks for more")


def check_sizes(settings, names: tuple[str, ...], size: int) -> None:
  """Refuses a shorter side at which a system's own size, in the same proportion as published, is none."""
  from cwf_jax.systems.system import SYSTEMS

  for name in names:
    try:
      SYSTEMS[name].sizes.protocol(settings, size)
    except InputError as error:
      where = f"--image_size={size} stands where the paper has 720, and the images of {name} are in proportion"
      raise CallError(f"{where}: {error}") from None
