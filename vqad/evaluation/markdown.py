"""An evaluation as Markdown: our results beside all columns of the paper's tables 1 to 4."""

from collections.abc import Iterable, Sequence
from dataclasses import fields

from vqad.evaluation.ablations import ABLATIONS
from vqad.evaluation.baselines import LOSSES
from vqad.evaluation.local_baseline import LOCAL
from vqad.evaluation.measure import RESAMPLING, Measured, mean_of, methods_of, worst_of
from vqad.evaluation.metrics import Metrics
from vqad.evaluation.paper_results import PUBLISHED
from vqad.evaluation.witness_ablations import THRESHOLDS, is_variant

_TITLES = {
    "image_accuracy": "Table 1: image accuracy",
    "pro": "Table 2: PRO at the threshold",
    "pixel_auroc": "Table 3: pixel AUROC",
    "image_f1": "Table 4, left: image F1",
    "pixel_f1": "Table 4, right: pixel F1",
}
# Without a threshold, so that the rules for thresholds don't decide the comparison.
_COMPARED = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC", "au_pro": "AU-PRO"}
_METRICS = tuple(each.name for each in fields(Metrics))


def text(
    measured: Sequence[Measured], *, about: Sequence[str], pictures: Sequence[str] = ()
) -> str:
    """All tables; ``about`` has lines on how it was measured, ``pictures`` the paths of figures."""
    there = methods_of(measured)
    ours = [each for each in (RESAMPLING, *LOSSES, LOCAL) if each in there]
    parts = ["# Evaluation", *about, _note(), *_worse_than_local(measured)]
    for metric, title in _TITLES.items():
        parts += [f"## {title}", _beside_the_paper(measured, metric, ours)]
    parts += ["## All metrics", _all_metrics(measured, ours)]
    if ABLATIONS[0] in there:
        parts += [
            "## Ablations (figure 8)",
            _all_metrics(measured, [RESAMPLING, *ABLATIONS]),
        ]
    parts += _witnesses(measured)
    parts += ["## By type of defect", _by_type(measured)]
    if pictures:
        parts += ["## Figures", *(f"![{path}]({path})" for path in pictures)]
    return "\n\n".join(parts) + "\n"


def _note() -> str:
    return (
        "Our results have three decimals, the paper's two. `-` means not defined on this data, or "
        "not in the paper. Image accuracy, PRO, F1, recall and the rate of false alarms are at "
        "each method's own threshold, which is set on normal images. Image accuracy is balanced: "
        "the mean of recall, the share of defective images that are found, and of the share of "
        "good images without a false alarm. F1max is at the best threshold for these labels, an "
        "upper bound. The paper's mean is over MVTec AD's 15 categories, ours over those listed "
        "here."
    )


def _worse_than_local(measured: Sequence[Measured]) -> list[str]:
    """A line for each category whose detector loses to statistics that are fitted in seconds."""
    by_name = {(each.category, each.method): each.metrics for each in measured}
    lines = []
    for category in _categories(measured):
        detector = by_name.get((category, RESAMPLING))
        local = by_name.get((category, LOCAL))
        if detector and local and (worse := _worse(detector, local)):
            lines.append(
                f"**{category}: the detector is worse than local statistics alone** in "
                f"{', '.join(worse)}. Local statistics are fitted in seconds, without a network."
            )
    return lines


def _worse(detector: Metrics, local: Metrics) -> list[str]:
    found = []
    for name, title in _COMPARED.items():
        ours, theirs = getattr(detector, name), getattr(local, name)
        if ours is not None and theirs is not None and ours < theirs:
            found.append(f"{title} ({_ours(ours)} against {_ours(theirs)})")
    return found


def _beside_the_paper(measured: Sequence[Measured], metric: str, ours: Sequence[str]) -> str:
    published = PUBLISHED[metric]
    rows = []
    for category in _categories(measured):
        own = {m.method: getattr(m.metrics, metric) for m in measured if m.category == category}
        theirs = [column.get(category) for column in published.values()]
        rows.append([category, *(_ours(own.get(each)) for each in ours), *map(_theirs, theirs)])
    means = [getattr(mean_of(measured, each), metric) for each in ours]
    theirs = [column["mean"] for column in published.values()]
    rows.append(["mean", *map(_ours, means), *map(_theirs, theirs)])
    return _table(["category", *(f"{each}, here" for each in ours), *published], rows)


def _all_metrics(measured: Sequence[Measured], methods: Sequence[str]) -> str:
    rows = []
    for category in _categories(measured):
        for each in measured:
            if each.category == category and each.method in methods:
                rows.append([category, each.method, *_values(each.metrics)])
    rows += [["mean", method, *_values(mean_of(measured, method))] for method in methods]
    if len(_categories(measured)) > 1:
        rows += [["worst", method, *_values(worst_of(measured, method))] for method in methods]
    return _table(["category", "method", *_METRICS], rows)


def _witnesses(measured: Sequence[Measured]) -> list[str]:
    """A section on the witnesses of the form full, alone and left out, if they were measured."""
    there = [each for each in methods_of(measured) if is_variant(each)]
    if not there:
        return []
    # Without the categories of other forms, which would make the means those of other products.
    of_full = {each.category for each in measured if each.method in there}
    rows = [each for each in measured if each.category in of_full]
    return [
        "## Each witness of the form full alone, and each left out",
        THRESHOLDS,
        _all_metrics(rows, [RESAMPLING, *there]),
    ]


def _by_type(measured: Sequence[Measured]) -> str:
    rows = [
        [each.category, defect_type, *_values(found)]
        for each in measured
        if each.method == RESAMPLING
        for defect_type, found in each.by_type.items()
    ]
    return _table(["category", "defect, with all good images", *_METRICS], rows)


def _categories(measured: Sequence[Measured]) -> list[str]:
    return list(dict.fromkeys(each.category for each in measured))


def _values(found: Metrics) -> list[str]:
    return [_ours(getattr(found, name)) for name in _METRICS]


def _ours(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _theirs(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
