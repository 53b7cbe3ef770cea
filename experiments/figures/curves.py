"""Figure 5's curves: runs that differ in one setting alone, with mean and deviation over their seeds."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from supermix_pl.experiments.shared.runs.budget import differences, label, shown, training
from supermix_pl.experiments.shared.runs.folders import Run
from supermix_pl.experiments.shared.runs.identity import dataset, method_in, pair
from supermix_pl.experiments.shared.runs.paper import load
from supermix_pl.experiments.shared.statistics import Summary

PARAMETERS = {
    "size": "mixes.size",
    "k": "mixer.k",
    "alpha": "mixer.alpha",
    "lambda_s": "mixer.lambda_s",
    "sigma": "mixer.sigma",
    "mask_size": "mixer.mask_size",
}


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Accuracy against one parameter, everything else equal."""

    parameter: str  # a name in `PARAMETERS`
    dataset: str
    method: str
    label: str  # the method, and what sets the curve apart from others of its panel
    # value of the parameter and accuracies in %, of the seeds; at least two, in rising order
    points: tuple[tuple[float, Summary], ...]


def find_curves(runs: Sequence[Run], *, best: bool = False) -> list[Curve]:
    """Find all curves in runs, whatever experiment they come from.

    Of several runs with the same settings and seed the newest counts.
    """
    described = [(run, _settings(run)) for run in runs]
    curves = [curve for name in PARAMETERS for curve in _curves(name, described, "val/accuracy_best" if best else None)]
    return sorted(curves, key=lambda curve: (list(PARAMETERS).index(curve.parameter), curve.dataset, curve.label))


def _settings(run: Run) -> dict[str, Any]:
    method = method_in(load().tables["custom"], run).partition("_k")[0]
    names = {name: value for name in ("protocol", "scale") if (value := run.name_of(name))}
    own = {"method": method, "pair": pair(run), "dataset": dataset(run.config)}
    return own | names | training(run.config)


def _curves(parameter: str, described: Sequence[tuple[Run, dict[str, Any]]], metric: str | None) -> list[Curve]:
    key = PARAMETERS[parameter]
    groups: dict[str, dict[float, dict[int, Run]]] = defaultdict(lambda: defaultdict(dict))
    rest_of: dict[str, Mapping[str, Any]] = {}
    for run, settings in sorted(described, key=lambda each: each[0].written):
        value = settings.get(key)
        if not isinstance(value, int | float) or run.number(metric or "test/accuracy") is None:
            continue
        rest = {name: each for name, each in settings.items() if name != key}
        group = shown(rest)
        rest_of[group] = rest
        groups[group][float(value)][run.seed] = run
    whole = {group: values for group, values in groups.items() if len(values) > 1}
    apart = differences([rest_of[group] for group in whole])
    return [
        Curve(
            parameter=parameter,
            dataset=rest_of[group]["dataset"],
            method=rest_of[group]["method"],
            label=_label(rest_of[group], apart, whole, rest_of),
            points=tuple((value, Summary(_accuracies(seeds, metric))) for value, seeds in sorted(values.items())),
        )
        for group, values in whole.items()
    ]


def _accuracies(seeds: Mapping[int, Run], metric: str | None) -> tuple[float, ...]:
    found = (run.number(metric or "test/accuracy") for _, run in sorted(seeds.items()))
    return tuple(100 * value for value in found if value is not None)


def _label(
    rest: Mapping[str, Any], apart: Sequence[str], whole: Mapping[str, Any], rest_of: Mapping[str, Mapping[str, Any]]
) -> str:
    """Name the method, and where two curves have the same method and data, what else they differ in."""
    alike = [
        rest_of[group] for group in whole if all(rest_of[group][name] == rest[name] for name in ("method", "dataset"))
    ]
    names = [name for name in differences(alike) if name in apart] if len(alike) > 1 else []
    return ", ".join(filter(None, [rest["method"], label(rest, names)]))
