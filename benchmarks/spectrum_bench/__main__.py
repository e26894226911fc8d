import sys

from benchmarks import spectrum_bench
from benchmarks.spectrum_bench import signals

words = sys.argv[1:]
for name, part in (("codes", spectrum_bench), ("signals", signals)):
    if name in words or not {"codes", "signals"} & set(words):
        part.main(quick="--quick" in words)
