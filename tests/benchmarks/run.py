"""Prints every speed and memory figure as a ratio within this one run; exit status 1 if a bound is broken.

Usage: python tests/benchmarks/run.py [NAME ...] with names out of: loss, step_overhead, probing, collection, memory,
gan_step_overhead, gan_order, attributed_step_overhead, attributed_order, growth_overhead, image_cache, image_feed,
clip_cache, video_step_overhead, one_backward, retrieval, likelihood.
"""

import logging
import sys
import warnings

import bench_collection
import bench_density
import bench_faces
import bench_gan
import bench_images
import bench_probe
import bench_retrieval
import bench_statics
import bench_stdim
import bench_video
import torch
from rich.console import Console
from rich.table import Table

from lightning_zoo.cli.allocator import keep_freed_memory

BENCHMARKS = {
    "loss": bench_stdim.loss,
    "step_overhead": bench_stdim.step_overhead,
    "probing": bench_probe.probing,
    "collection": bench_collection.collection,
    "memory": bench_collection.memory,
    "gan_step_overhead": bench_gan.gan_step_overhead,
    "gan_order": bench_gan.gan_order,
    "attributed_step_overhead": bench_faces.attributed_step_overhead,
    "attributed_order": bench_faces.attributed_order,
    "growth_overhead": bench_faces.growth_overhead,
    "image_cache": bench_images.image_cache,
    "image_feed": bench_images.image_feed,
    "clip_cache": bench_video.clip_cache,
    "video_step_overhead": bench_statics.video_step_overhead,
    "one_backward": bench_statics.one_backward,
    "retrieval": bench_retrieval.retrieval,
    "likelihood": bench_density.likelihood,
}


def main(names: list[str]) -> int:
    unknown = set(names) - set(BENCHMARKS)
    if unknown:
        print(f"no benchmark {sorted(unknown)[0]!r}; there are {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    warnings.filterwarnings("ignore")
    keep_freed_memory()  # as the command line does, for both sides of every ratio
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    table = Table(title=f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    for column in ("benchmark", "measured", "bound", "", "what was measured"):
        table.add_column(column)
    results = []
    for name in names or BENCHMARKS:
        result = BENCHMARKS[name]()
        results.append(result)
        sign = "at least" if result.at_least else "at most"
        verdict = "kept" if result.kept else "BROKEN"
        print(
            f"{name}: {result.value:.2f} {result.unit} ({sign} {result.bound:g}, {verdict}): {result.detail}",
            flush=True,
        )
        table.add_row(
            result.name, f"{result.value:.2f} {result.unit}", f"{sign} {result.bound:g}", verdict, result.detail
        )
    Console(width=160 if not sys.stdout.isatty() else None).print(table)
    return 0 if all(result.kept for result in results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
