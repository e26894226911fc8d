"""Kept rows as a figure of docs/measured: ``python -m benchmarks.spectrum_bench figures`` draws it again."""

from pathlib import Path

import numpy as np

from benchmarks.spectrum_bench import dimensions, signals
from benchmarks.spectrum_bench.codes import CODES
from benchmarks.spectrum_bench.tables import kept_rows
from eigencode.spectra.plotting import new_figure

FIGURE = Path(__file__).parents[2] / "docs" / "measured" / "spectrum_bench.png"

COLOURS = {"plain": "#999999", "mestre": "#d55e00", "population": "#0072b2", "one_width": "#009e73"}
"""Of Okabe and Ito: they differ for the colour-blind too."""

LABELS = {
    "plain": "plain fit",
    "mestre": "Mestre 2008",
    "population": "population spectrum",
    "one_width": "bends of one width",
}

TICKS = (0.02, 0.05, 0.1, 0.2)
"""Of half-widths."""

FEW = ", 300 images, 1000 units, ranks 6-50"


def biases(axes):
    """What estimators of the exponent are wrong by, code by code."""
    exponents, others = kept_rows("exponents"), kept_rows("estimators")
    codes = [name for name in exponents if name.endswith(FEW)]
    places = np.arange(len(codes))
    found = {name: [others[code][name]["bias"] for code in codes] for name in ("plain", "mestre")}
    found["population"] = [exponents[code]["bias"] for code in codes]
    axes.axvline(0, color="black", lw=0.8)
    axes.axvspan(-0.03, 0.03, color="#dddddd", zorder=0)
    for name, values in found.items():
        axes.plot(values, places, "o", color=COLOURS[name], ms=5, label=LABELS[name])
    axes.set_yticks(places, [code.removesuffix(FEW) for code in codes])
    axes.invert_yaxis()
    axes.set_xlabel("bias of α (grey: at most 0.03)")
    axes.legend(fontsize=7, loc="upper left")


def widths(axes):
    """Half-widths of 95 % intervals, and their coverage."""
    rows = {name: row for name, row in kept_rows("estimators").items() if "one_width" in row}
    places = np.arange(len(rows))
    for shift, name in ((-0.13, "population"), (0.13, "one_width")):
        values = [row[name]["median_half_width"] for row in rows.values()]
        axes.plot(values, places + shift, "o", color=COLOURS[name], ms=5, label=LABELS[name])
        for row, value, place in zip(rows.values(), values, places + shift, strict=True):
            text = f"{100 * row[name]['coverage']:.1f} %"
            axes.annotate(text, (value, place), (5, 0), textcoords="offset points", fontsize=6.5, va="center")
    axes.set_xscale("log")
    axes.set_xlim(right=axes.get_xlim()[1] * 1.8)
    axes.set_xticks(TICKS, [str(tick) for tick in TICKS])
    axes.minorticks_off()
    axes.set_yticks(places, [name.removesuffix(FEW) for name in rows])
    axes.invert_yaxis()
    axes.set_xlabel("half-width of the interval of α, with its coverage")
    axes.legend(fontsize=7, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)


def ratios(axes):
    """Dimension that is found, over the true one, by the number of images."""
    rows = kept_rows("dimensions")
    for name in CODES:
        found = [rows[f"D, {name}, {count} images, {dimensions.UNITS} units"] for count in dimensions.COUNTS]
        for kind, colour in (("plain", "plain"), ("unbiased", "population")):
            values = [row[kind] / row["truth"] for row in found]
            axes.plot(dimensions.COUNTS, values, "o-", color=COLOURS[colour], ms=3, lw=0.8)
    axes.axhline(1, color="black", lw=0.8)
    axes.set_xscale("log")
    axes.set_xticks(dimensions.COUNTS, [str(count) for count in dimensions.COUNTS])
    axes.minorticks_off()
    axes.set_xlabel(f"images (of {dimensions.UNITS} units; a line for each code)")
    axes.set_ylabel("D found / true D")
    for kind, colour in (("of the sample", "plain"), ("of the population, unbiased", "population")):
        axes.plot([], [], "o-", color=COLOURS[colour], label=kind)
    axes.legend(fontsize=7)


def recordings(axes):
    """Exponents of signals, by their share of the variance."""
    rows = kept_rows("signals")
    stimuli, neurons = signals.FEW
    for alpha in signals.EXPONENTS:
        found = [
            rows[f"signal, alpha {alpha}, share {share}, white noise, {stimuli} stimuli, {neurons} neurons"]
            for share in signals.FRACTIONS
        ]
        axes.axhline(alpha, color="black", lw=0.8)
        old = [np.nan if row["cvpca"] is None else row["cvpca"] for row in found]
        axes.plot(signals.FRACTIONS, old, "s--", color=COLOURS["mestre"], ms=4, lw=0.8)
        axes.errorbar(
            signals.FRACTIONS, [row["alpha"] for row in found], [row["spread"] for row in found], fmt="o-", ms=4, lw=0.8,
            color=COLOURS["population"], capsize=2,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xticks(signals.FRACTIONS, [str(share) for share in signals.FRACTIONS])
    axes.minorticks_off()
    axes.set_xlabel(f"share of signal ({stimuli} stimuli, {neurons} neurons, white noise)")
    axes.set_ylabel("α found (lines: true α)")
    axes.plot([], [], "s--", color=COLOURS["mestre"], label="cvPCA, ranks 11–100")
    axes.plot([], [], "o-", color=COLOURS["population"], label="signal_spectrum, with its spread")
    axes.legend(fontsize=7)


def draw():
    """The figure of all four."""
    figure = new_figure(9.6, 7.6)
    for letter, axes, panel in zip("ABCD", figure.subplots(2, 2).flat, (biases, widths, ratios, recordings), strict=True):
        panel(axes)
        axes.set_title(letter, loc="left", fontweight="bold", pad=18 if panel is widths else 6)
    return figure


def main():
    """Draws and keeps it."""
    draw().savefig(FIGURE, dpi=130)
