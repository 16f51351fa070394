"""The command line: `python main.py --help` lists what it can do."""

from absl import app

from cwf_jax.cli import entry

if __name__ == "__main__":
  app.run(entry.run_and_leave, flags_parser=entry.parse)
