import sys

from benchmarks import spectrum_bench
from benchmarks.spectrum_bench import signals

words = sys.argv[1:]
both = not {"codes", "signals"} & set(words)
if both or "codes" in words:
    spectrum_bench.main(quick="--quick" in words)
if both or "signals" in words:
    signals.main(quick="--quick" in words, resume="--resume" in words)
