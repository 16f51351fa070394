"""`--mode=info`: what an index is and what it holds."""

import dataclasses
import json

from absl import flags

from cwf_jax.cli.call import ENCODER_FLAGS, CallError
from cwf_jax.errors import printable

EXAMPLES = """
  python main.py --mode=info --index=my.index
  python main.py --mode=info --index=my.index --format=json

Shows the images by folder, how many of their files are gone, the network and the settings that
the index was made with, and its size by part.
"""

WITHOUT = ENCODER_FLAGS


def define_flags(values: flags.FlagValues) -> None:
  """The flags of this mode."""
  flags.DEFINE_enum("format", "table", ["table", "json"], "lines for people, or one JSON object", flag_values=values)


def run(values: flags.FlagValues, console) -> int:
  """Runs the mode: the description goes to standard output."""
  if not values["index"].value:
    raise CallError("--mode=info needs --index=PATH; --mode=info --help shows examples")
  from cwf_jax.index.store import open_index
  from cwf_jax.index.upkeep import describe_index

  info = describe_index(open_index(values["index"].value))
  print(json.dumps(dataclasses.asdict(info), ensure_ascii=False) if values["format"].value == "json" else _format(info))
  return 0


def _format(info) -> str:
  total = sum(info.bytes.values())
  parts = ", ".join(f"{name} {_megabytes(size)}" for name, size in info.bytes.items() if size)
  own = info.bytes["rows"] + info.bytes["snapshots"]
  each = f", {own / info.images / 1000:.1f} kB an image" if info.images else ""
  summed = f"{info.num_classes} classes summed, " if info.system in ("ofa", "cwr") else ""
  last = ", --feature_map=last" if info.feature_map == "last" else ""
  rows = {
    "index": printable(info.folder),
    "images": f"{info.images} in version {info.version} ({info.versions} on the disk)",
    "size": f"{_megabytes(total)} ({parts}){each}",
    "system": f"{info.system}: {summed}{info.dimensions} dimensions",
    "weights": f"{info.weights}, sha256 {info.weights_sha256[:12]}",
    "images are read": f"protocol {info.protocol}, shorter side {info.image_size} pixels{last}",
    "whitening": info.whitening,
    "class vectors": info.stored_classes,
    "encoder": info.fingerprint[:12],
  }
  for number, (maker, images) in enumerate(info.made_with.items()):
    rows["made with" if not number else f"made with ({number + 1})"] = f"{maker}: {images}"
  lines = [f"{name:<16} {value}" for name, value in rows.items()]
  for folder in info.folders:
    gone = f", {folder.gone} of them without a file" if folder.gone else ""
    prefix = f" under the prefix {printable(folder.prefix)}" if folder.prefix else ""
    lines.append(f"{'folder':<16} {printable(folder.root)}{prefix}: {folder.images}{gone}")
  return "\n".join(lines)


def _megabytes(size: int) -> str:
  return f"{size / 1e6:.1f} MB"
