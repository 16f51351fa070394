"""A call of the command line: its mode and its flags, parsed and checked, or one line that says what is wrong."""

import dataclasses
import importlib
import re
import textwrap
from types import ModuleType

from absl import flags

from cwf_jax.errors import InputError, near
from cwf_jax.version import __version__

MODES = {
  "index": "encode the photographs of a folder into an index, or bring one up to date",
  "search": "rank the images of an index for a photograph, or for a box in one",
  "info": "show what an index holds, what it was made with, and which of its files are gone",
  "delete": "take images out of an index, by id or because their files are gone",
  "export": "write the descriptors of an index to a file for other programs",
  "explain": "tell which classes are where in a photograph, or what made the score of two",
  "evaluate": "rank a benchmark by all systems of the paper: measured beside published",
  "train": "train a network on class folders, or let a small one learn from a large one",
  "convert": "turn weights of Keras, Caffe or PyTorch into a checkpoint that --weights takes",
  "fetch": "download published weights, verify and convert them",
  "demo": "evaluate, index and search a small benchmark, with pictures; the quickest look",
}
"""What each mode does; its module in this package has the same name."""


ENCODER_FLAGS = ("weights", "protocol", "image_size", "num_classes", "feature_map", "batch_size")
"""Flags of all modes that those without an encoder leave out, in their `WITHOUT`."""


class CallError(InputError):
  """A wrong flag or value: the message names the flag and what it takes."""


class FailedError(Exception):
  """A call that was right and could not be carried out: exit 1."""


@dataclasses.dataclass(frozen=True)
class Call:
  """A call that can be run.

  Attributes:
    mode: the module that runs it.
    values: the flags; one that was not given has its default, None where the mode decides.
  """

  mode: ModuleType
  values: flags.FlagValues


@dataclasses.dataclass(frozen=True)
class Answer:
  """A call that is answered by a text: `--help`, `--version`."""

  text: str


def parse_call(argv: list[str]) -> Call | Answer:
  """Reads the arguments, the program's name first; `search ...` is `--mode=search ...`.

  Raises:
    CallError: an unknown mode or flag, a value that a flag does not take, or something that is no flag.
  """
  if len(argv) > 1 and argv[1] in MODES:  # `cwf-jax search ...`
    argv = [argv[0], f"--mode={argv[1]}", *argv[2:]]
  first = _new_flags()
  flags.DEFINE_string("mode", None, "", flag_values=first)
  _parsed(first, argv, known_only=True)
  if first["mode"].value is None:
    if first["version"].value:
      return Answer(f"cwf_jax {__version__}")
    if first["help"].value:
      return Answer(_overview())
    raise CallError(f"--mode is missing: one of {', '.join(MODES)}; --help tells more")
  if first["mode"].value not in MODES:
    raise CallError(f"--mode is one of {', '.join(MODES)}; found {first['mode'].value!r}")
  mode = importlib.import_module(f"cwf_jax.cli.{first['mode'].value}")
  values = _new_flags()
  flags.DEFINE_string("mode", None, "what to do; --help without --mode lists the modes", flag_values=values)
  define_shared(values, getattr(mode, "WITHOUT", ()))
  mode.define_flags(values)
  left = _parsed(values, argv)
  if values["version"].value:
    return Answer(f"cwf_jax {__version__}")
  if values["help"].value:
    return Answer(_mode_help(first["mode"].value, mode, values))
  if left[1:]:
    raise CallError(f"everything is given by flags; found {left[1]!r} (a name with spaces needs quotes)")
  return Call(mode, values)


def define_shared(values: flags.FlagValues, without: tuple[str, ...] = ()) -> None:
  """The flags that mean the same in every mode, but those that a mode has no use for."""
  text, number = flags.DEFINE_string, flags.DEFINE_integer
  text("index", None, "the index's folder", flag_values=values)
  text("weights", None, "default, a checkpoint's name or folder, or random:NETWORK (seeded)", flag_values=values)
  flags.DEFINE_enum(
    "protocol", None, ["paper", "reference"], "the settings of the paper (default) or of its published code", flag_values=values
  )
  number("image_size", None, "shorter side in pixels; default: the checkpoint's own", lower_bound=32, flag_values=values)
  summed = "classes summed into a descriptor; default: 32, and the paper's 64 in evaluations"
  number("num_classes", None, summed, lower_bound=1, flag_values=values)
  maps = "the map that is searched by: of stride 16 (default), or the network's last one, as the authors have it for ResNet-50"
  flags.DEFINE_enum("feature_map", None, ["stride16", "last"], maps, flag_values=values)
  number("batch_size", None, "images on the device at a time; default: by their size", lower_bound=1, flag_values=values)
  flags.DEFINE_boolean("quiet", False, "no progress and no remarks on standard error, only errors", flag_values=values)
  text("log_file", None, "a file that the remarks are appended to, with times", flag_values=values)
  for name in without:
    delattr(values, name)


def define_plugin(values: flags.FlagValues) -> None:
  """The flag of the modes that know systems."""
  what = "a Python file of your own that adds systems (README.md); it is run"
  flags.DEFINE_string("plugin", None, what, flag_values=values)


def load_asked_plugin(values: flags.FlagValues) -> None:
  """Runs the plugin of a call, if it names one."""
  if values["plugin"].value is not None:
    from cwf_jax.systems.plugin import load_plugin

    load_plugin(values["plugin"].value)


def _new_flags() -> flags.FlagValues:
  values = flags.FlagValues()
  flags.DEFINE_boolean("help", False, "show this", short_name="h", flag_values=values)
  flags.DEFINE_boolean("version", False, "show the version", flag_values=values)
  return values


def _parsed(values: flags.FlagValues, argv: list[str], known_only: bool = False) -> list[str]:
  try:
    return values(argv, known_only=known_only)
  except flags.UnrecognizedFlagError as error:
    hint = near(error.flagname, values, "--{}")
    raise CallError(f"there is no flag --{error.flagname}{hint} (--help shows the flags)") from None
  except flags.IllegalFlagValueError as error:
    found = re.match(r"flag --(\w+)=(.*?): ", str(error), re.DOTALL)
    if found is None:
      raise CallError(_one_line(error)) from None
    raise CallError(f"--{found[1]} takes {_taken(values[found[1]])}; found {found[2]!r}") from None
  except flags.Error as error:
    raise CallError(f"{_one_line(error)} (--help shows the flags)") from None


def _one_line(error: Exception) -> str:
  return " ".join(str(error).split())


def _taken(flag: flags.Flag) -> str:
  """What a flag's value is, in words."""
  choices = getattr(flag.parser, "enum_values", None)
  least = getattr(flag.parser, "lower_bound", None)
  if flag.boolean:
    return "no value, or true or false"
  if choices:
    return f"one of {', '.join(choices)}"
  kind = "a number" if flag.flag_type() == "float" else "a whole number"
  most = getattr(flag.parser, "upper_bound", None)
  return kind + ("" if least is None else f" of at least {least:g}") + ("" if most is None else f" and at most {most:g}")


def _overview() -> str:
  width = max(map(len, MODES))
  lines = [f"  --mode={name:<{width}}  {what}" for name, what in MODES.items()]
  return "\n".join(
    [
      "Visual instance search: find the same building, product or object in a collection of photographs.",
      "",
      "  python main.py --mode=index  --images=FOLDER --index=FOLDER.index",
      "  python main.py --mode=search --index=FOLDER.index --query=PHOTOGRAPH.jpg",
      "",
      "Modes (--mode=NAME --help shows a mode's flags, with examples):",
      *lines,
      "",
      "Exit codes: 0 done; 1 failed on the way; 2 the call was wrong; 130 interrupted.",
    ]
  )


def _mode_help(name: str, mode: ModuleType, values: flags.FlagValues) -> str:
  lines = [f"--mode={name}: {MODES[name]}.", ""]
  lines += mode.EXAMPLES.strip("\n").splitlines()
  own = flags.FlagValues()
  mode.define_flags(own)
  for title, names in (
    ("Flags of this mode:", list(own)),
    ("Flags of all modes:", [flag for flag in values if flag not in list(own)]),
  ):
    lines += ["", title]
    for flag_name in (name for name in names if name != "h"):
      flag = values[flag_name]
      form = f"--{flag_name}" if flag.boolean else f"--{flag_name}={_placeholder(flag)}"
      default = "" if flag.default in (None, False, "", []) else f" (default: {flag.default})"
      # absl puts choices before it, and after it that it can be repeated
      what = flag.help.rpartition(">: ")[2].partition(";\n")[0]
      lines += textwrap.wrap(f"{what}{default}", 98, initial_indent=f"  {form:<35} ", subsequent_indent=" " * 38)
  return "\n".join(lines)


def _placeholder(flag: flags.Flag) -> str:
  choices = getattr(flag.parser, "enum_values", None)
  return "|".join(choices) if choices else {"int": "N", "string": "TEXT"}.get(flag.flag_type(), "VALUE")
