import sys

from benchmarks.spectrum_bench import dimensions, estimators, exponents, figures, laws, signals, tables

PARTS = {
    "dimensions": dimensions.main,
    "exponents": exponents.main,
    "estimators": estimators.main,
    "laws": laws.main,
    "signals": signals.main,
}

SHOWN = {"tables": tables.main, "figures": figures.main}
"""Kept rows, as they stand in the docs."""

words = set(sys.argv[1:])
if unknown := words - {*PARTS, *SHOWN, "--quick", "--resume"}:
    names = ", ".join((*PARTS, *SHOWN))
    sys.exit(f"spectrum_bench: unknown {' '.join(sorted(unknown))}; give {names}, --quick or --resume.")
for name in [name for name in SHOWN if name in words]:
    SHOWN[name]()
for name in [name for name in PARTS if name in words] or ([] if words & {*SHOWN} else PARTS):
    resume = {"resume": "--resume" in words} if name != "dimensions" else {}
    PARTS[name](quick="--quick" in words, **resume)
