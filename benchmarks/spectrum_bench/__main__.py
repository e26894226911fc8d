import sys

from benchmarks.spectrum_bench import dimensions, estimators, exponents, laws, signals, tables

PARTS = {
    "dimensions": dimensions.main,
    "exponents": exponents.main,
    "estimators": estimators.main,
    "laws": laws.main,
    "signals": signals.main,
}

words = set(sys.argv[1:])
if unknown := words - {*PARTS, "tables", "--quick", "--resume"}:
    names = ", ".join((*PARTS, "tables"))
    sys.exit(f"spectrum_bench: unknown {' '.join(sorted(unknown))}; give {names}, --quick or --resume.")
if "tables" in words:
    tables.main()
for name in [name for name in PARTS if name in words] or ([] if "tables" in words else PARTS):
    resume = {"resume": "--resume" in words} if name != "dimensions" else {}
    PARTS[name](quick="--quick" in words, **resume)
