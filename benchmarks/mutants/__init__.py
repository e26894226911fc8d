"""Do the tests notice a changed line? ``make mutants`` writes ``benchmarks/results/mutants.md`` and ``mutants.json``."""
