"""How long does the contact sheet of ten answers take beside the search itself?

    python benchmarks/contact_sheet.py
    python benchmarks/contact_sheet.py --maps
    python benchmarks/contact_sheet.py --weights random:vgg16_cam --image_size 720 --runs 3
    python benchmarks/contact_sheet.py --smoke               # seconds; for the tests

Indexes the toy landmarks, searches them, and times the parts of `--mode=search --figure`: encoding and ranking the query;
matching places, for which the answers are decoded and encoded; then decoding the answers, with `--maps` their maps, drawing and
saving. The first round, which compiles, has its own column.
"""

import argparse
import dataclasses
import pathlib
import statistics
import tempfile
import time


def main() -> None:
  """Times some rounds and prints a table."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--weights", default="default")
  parser.add_argument("--image_size", type=int, default=None)
  parser.add_argument("--answers", type=int, default=10)
  parser.add_argument("--maps", action="store_true", help="with activation maps")
  parser.add_argument("--runs", type=int, default=9)
  parser.add_argument("--format", default="png", choices=["png", "jpg", "pdf", "svg"])
  parser.add_argument("--smoke", action="store_true", help="two landmarks at 64 pixels, two rounds")
  arguments = parser.parse_args()

  from cwf_jax.figures.contact_sheet import draw_answers
  from cwf_jax.figures.files import save_figure
  from cwf_jax.indexing.build import build_index
  from cwf_jax.load import load_encoder
  from cwf_jax.retrieval.searcher import Searcher
  from cwf_jax.toy.landmarks import TOY_OXFORD, write_landmarks

  landmarks, size, runs = TOY_OXFORD, arguments.image_size, arguments.runs
  if arguments.smoke:
    landmarks, size, runs = dataclasses.replace(TOY_OXFORD, scenes=TOY_OXFORD.scenes[:2], distractors=4), 64, 2
  with tempfile.TemporaryDirectory() as temporary:
    folder = pathlib.Path(temporary)
    queries = write_landmarks(folder, landmarks)
    build_index(folder / "images", folder / "index", load_encoder(arguments.weights, image_size=size))
    searcher = Searcher(folder / "index")
    path = folder / "images" / f"{queries[0].image}.jpg"
    steps: dict[str, list[float]] = {"search": [], "matching places": [], f"sheet of {arguments.answers} answers": []}
    for _ in range(runs + 1):
      times = [time.perf_counter()]
      query = searcher.encode(path, queries[0].box)
      results = searcher.search([query], top=arguments.answers)[0]
      times.append(time.perf_counter())
      results = searcher.match(query, results)
      times.append(time.perf_counter())
      sheet = draw_answers(searcher.encoder, path, results, box=queries[0].box, maps=arguments.maps)
      save_figure(sheet, folder / f"answers.{arguments.format}")
      times.append(time.perf_counter())
      for seconds, start, end in zip(steps.values(), times, times[1:], strict=False):
        seconds.append(end - start)
  print("| | first, compiling | median (least .. most) |\n|---|---|---|")
  for name, seconds in steps.items():
    warm = seconds[1:]
    print(f"| {name} | {seconds[0]:.2f} s | {statistics.median(warm):.2f} s ({min(warm):.2f} .. {max(warm):.2f}) |")


if __name__ == "__main__":
  main()
