import sys

from benchmarks.spectrum_bench import dimensions, exponents, laws, signals

PARTS = {"dimensions": dimensions.main, "exponents": exponents.main, "laws": laws.main, "signals": signals.main}

words = set(sys.argv[1:])
if unknown := words - {*PARTS, "--quick", "--resume"}:
    sys.exit(f"spectrum_bench: unknown {' '.join(sorted(unknown))}; give {', '.join(PARTS)}, --quick or --resume.")
for name in [name for name in PARTS if name in words] or PARTS:
    resume = {"resume": "--resume" in words} if name != "dimensions" else {}
    PARTS[name](quick="--quick" in words, **resume)
