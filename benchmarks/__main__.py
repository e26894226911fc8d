"""Runs the benchmarks named on the command line, or all of them; this process keeps freed memory, as commands do."""

import sys
from importlib import import_module

from eigencode import keep_freed_memory

BENCHMARKS = (
    "start_up",
    "memory",
    "memory_of_all_layers",
    "measuring_against_forward",
    "monitor_price",
    "spectrum_against_reptrix",
    "spectrum_bench.dimensions",
    "spectrum_bench.exponents",
    "spectrum_bench.signals",
    "attack_speed",
    "nested_curve",
    "strengths_against_measure",
    "components_against_sklearn",
    "penalty_step",
    "stacked_training",
    "stacks_on_gpu",
    "kept_memory",
    "jacobian_step",
    "studies",
)

keep_freed_memory()
for name in sys.argv[1:] or BENCHMARKS:
    import_module(f"benchmarks.{name}").main()
