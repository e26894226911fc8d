"""Estimators of a population's numbers on codes whose truth is known: bias, spread, coverage and cost of each, 200 trials a row.

``python -m benchmarks.spectrum_bench`` takes four hours: dimensions of codes, exponents of codes, signals of recordings, or one
of these with ``dimensions``, ``exponents`` or ``signals``; with ``--resume`` the last two go on with what was kept. With
``--quick`` it takes seconds, for a few trials of a few rows, and writes nothing.
"""
