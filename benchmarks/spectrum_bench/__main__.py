import sys

from benchmarks.spectrum_bench import main

main(quick="--quick" in sys.argv[1:])
