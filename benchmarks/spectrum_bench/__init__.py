"""Estimators of a population's numbers on codes whose truth is known: bias, spread, coverage and cost of each, 200 trials a row.

``python -m benchmarks.spectrum_bench`` takes five hours: dimensions of codes, exponents of codes, tests of power laws, signals
of recordings, or one of these with ``dimensions``, ``exponents``, ``laws`` or ``signals``; with ``--resume`` the last three go
on with what was kept. With ``--quick`` it takes seconds, for a few trials of a few rows, and writes nothing.
"""
