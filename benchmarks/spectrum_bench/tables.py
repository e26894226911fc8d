"""Kept rows as the tables of docs/measured/index.md: ``python -m benchmarks.spectrum_bench tables`` prints them."""

import json

from benchmarks.timing import RESULTS


def kept_rows(part):
    """Results of a part by the name of the row."""
    return json.loads((RESULTS / f"spectrum_bench_{part}.json").read_text())["results"]


def _share(value):
    return "–" if value is None else f"{100 * value:.1f} %"


def _signed(value, digits):
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def _described(name, row):
    """Code, images and units, and ranks of a row's name; the code of a row that is of an earlier estimator has a mark."""
    code, *parts = (part.strip() for part in name.split(","))
    units = next(part for part in parts if part.endswith(" units")).split()[0]
    ranks = next(part for part in parts if part.startswith("ranks "))
    rest = [part.replace(" images", "") for part in parts if not part.endswith(" units") and not part.startswith("ranks ")]
    return (
        code + (" †" if row.get("earlier") else ""),
        f"{', '.join(rest)} × {units}",
        ranks.removeprefix("ranks ").replace("-", "–"),
    )


def exponents():
    """Bias and coverage of the population's exponent."""
    yield "| code | images × units | ranks | α | plain α | bias | spread | coverage | open | CPU s |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for name, row in kept_rows("exponents").items():
        numbers = (f"{row['truth']:.3f}", f"{row['plain']:.3f}", _signed(row["bias"], 3), f"{row['spread']:.3f}")
        shares = (_share(row["coverage"]), _share(row["open"]), f"{row['cpu_seconds']:.2f}")
        yield f"| {' | '.join((*_described(name, row), *numbers, *shares))} |"


def estimators():
    """Errors of other estimators of the exponent on the same samples."""
    interval = "RMSE | half-width | coverage"
    yield f"| code | images × units | ranks | plain, RMSE | Mestre, RMSE | population, {interval} | one width, {interval} |"
    yield "|---|---|---|---|---|---|---|---|---|---|---|"
    exponents_found = kept_rows("exponents")
    for name, row in kept_rows("estimators").items():
        found = exponents_found[name]
        errors = {"rmse": (found["bias"] ** 2 + found["spread"] ** 2) ** 0.5, "coverage": found["coverage"]}
        population = row.get("population", errors)
        numbers = [f"{row[each]['rmse']:.3f}" for each in ("plain", "mestre")]
        for each in (population, row.get("one_width", {})):
            half_width = each.get("median_half_width")
            numbers.append(f"{each['rmse']:.3f}" if each else "–")
            numbers.append("–" if half_width is None else f"{half_width:.3f}")
            numbers.append(_share(each.get("coverage")))
        yield f"| {' | '.join((*_described(name, row), *numbers))} |"


def laws():
    """Size and power of the test of a power law."""
    yield "| code | images × units | ranks | bends | no bend | cannot tell | bend (spread) | rank | its interval | exponents |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for name, row in kept_rows("laws").items():
        answers = (_share(row[answer]) for answer in ("rejected", "no_bend", "cannot_tell"))
        bend = f"{_signed(row['mean_bend'], 2)} ({row['spread']:.2f})"
        found = (f"{row['median_rank']:.0f}", _share(row["rank_coverage"]), f"{row['before']:.2f}, {row['after']:.2f}")
        broken = found if row["rank_coverage"] is not None else "–––"
        yield f"| {' | '.join((*_described(name, row), *answers, bend, *broken))} |"


def signals():
    """Bias and coverage of the signal's exponent."""
    yield "| stimuli × neurons, noise | share of signal | α | bias | spread | coverage | open below | coverage, share | cvPCA |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for name, row in kept_rows("signals").items():
        if not name.startswith("signal, ") or "gains" in name:
            continue
        _, alpha, share, noise, stimuli, neurons = name.split(", ")
        place = f"{stimuli.split()[0]} × {neurons.split()[0]}, {noise.split()[0]}"
        numbers = (_signed(row["bias"], 3), f"{row['spread']:.3f}", _share(row["coverage"]))
        below = f"{100 * row['open_below']:.0f} %" if row["open_below"] else "–"
        old = "–" if row["cvpca"] is None else f"{row['cvpca']:.2f}"
        law = (share.split()[1], alpha.split()[1])
        yield f"| {' | '.join((place, *law, *numbers, below, _share(row['fraction_coverage']), old))} |"


def sampled():
    """Dimension in all neurons that the recorded ones are a sample of."""
    yield "| neurons | stimuli × neurons | D of all | found | coverage | coverage, share | D, once | found | coverage |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for name, row in kept_rows("signals").items():
        if name.startswith("sampled neurons, "):
            _, kind, stimuli, neurons = name.split(", ")
            size = f"{stimuli.split()[0]} × {neurons.split()[0]}"
            signal = (f"{row['truth']:.1f}", f"{row['dimension']:.1f}", _share(row["coverage"]), _share(row["fraction_coverage"]))
            truth = row["one_presentation_truth"]
            found = f"{truth * (1 + row['one_presentation_bias']):.1f}"
            one = (f"{truth:.1f}", found, _share(row["one_presentation_coverage"]))
            yield f"| {' | '.join((kind, size, *signal, *one))} |"


TABLES = (exponents, estimators, laws, signals, sampled)


def main():
    """All tables."""
    for table in TABLES:
        print("\n".join(table()), end="\n\n")
