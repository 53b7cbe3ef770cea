"""What a run is a run of: the names of its networks, data and method, and the table that it belongs to."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from supermix_pl.experiments.shared.runs.folders import Run
from supermix_pl.experiments.shared.runs.paper import PaperTable, canonical, load

_PAPER_K = 2
_POLICIES = ("autoaugment", "fast_autoaugment", "randaugment")


@dataclass(frozen=True, kw_only=True)
class Place:
    """A cell."""

    table: str  # its name, or "custom"
    column: str  # network or pair
    method: str


def place(run: Run) -> Place:
    """Find the cell of a run.

    The table is the one that the run names, if it has such a cell; a run that names none but has a pair and a method of
    Tables 2, 3 or 5, and their data, belongs there. Everything else is "custom".
    """
    named, tables = run.config.get("table"), load().tables
    for table in tables.values():
        column = table.find(network(run) if table.of_networks else run.name_of("pair") or "")
        method = method_in(table, run)
        if column is None or run.name_of("method") is None or method not in table.methods:
            continue
        if table.name == named or (named is None and not table.of_networks and column.dataset == dataset(run.config)):
            return Place(table=table.name, column=column.name, method=method)
    return Place(table="custom", column=pair(run), method=method_in(tables["custom"], run))


def method_in(table: PaperTable, run: Run) -> str:
    """Name a run's method as a table does.

    Sources other than the paper's 2, an example policy and one with the views of other data are in the name.
    """
    name, k = run.name_of("method") or _method(run.config), _target_value(run.config.get("mixer"), "k")
    if _has_example_policy(run.config):
        return f"{name}_example"
    if name in _POLICIES and (others := _other_views(run.config)):
        return f"{name}_{others}"
    if k is None or table.of_networks:
        return name
    with_k = f"{name}_k{k}"
    return with_k if with_k in table.methods or k != _PAPER_K else name


def pair(run: Run) -> str:
    """Name teacher and student."""
    named, taught_by = run.name_of("pair"), teacher_name(run.config.get("teacher"))
    return named or (f"{taught_by}-{network(run)}" if taught_by else f"{network(run)} (no teacher)")


def network(run: Run) -> str:
    """Name the network that is trained."""
    return network_name(run.config["network"])


def teacher_name(node: Any) -> str | None:
    """Name the network of a teacher's node, or those that are averaged; None where it has none of its own.

    >>> first, second = ({"network": {"_target_": f"networks.{name}"}} for name in ("vgg8", "wrn_16_2"))
    >>> teacher_name({"teachers": {"first": first, "second": second}})
    'vgg8+wrn_16_2'
    """
    if several := _target_value(node, "teachers"):
        return "+".join(str(teacher_name(each)) for each in several.values())
    network = _target_value(node, "network")
    return network_name(network) if network else None


def network_name(node: Any) -> str:
    """Name the network of a node: what it says itself, else what it builds.

    >>> network_name({"_target_": "package.networks.wrn_16_2"}), network_name({"_target_": "t.timm", "name": "vit"})
    ('wrn_16_2', 'vit')
    """
    return str(_target_value(node, "name") or _target_value(node, "model_name") or target(node))


def dataset(config: Mapping[str, Any]) -> str:
    """Name the data: by their folder or name, or the class where there is neither; the paper's name where it is known.

    >>> [dataset({"data": node}) for node in ({"name": "uoft-cs/cifar100"}, {"folder": "a/b/"}, {"_target_": "d.My"})]
    ['cifar100', 'b', 'my']
    """
    node = config.get("data")
    folder = _target_value(node, "folder") or _target_value(node, "name")
    name = str(folder).rstrip("/").rpartition("/")[2] if folder else target(node).lower()
    return next((known for known, others in load().data_sets.items() if canonical(name) in others), name)


def target(node: Any) -> str:
    """Name what a node builds, without its module; "?" for a node that builds nothing."""
    return str(_target_value(node, "_target_") or "?").rpartition(".")[2]


def _method(config: Mapping[str, Any]) -> str:
    """Name the method of a run that was put together by hand; a loss of the user's own by the settings it inherits."""
    task, mixer = config.get("task"), config.get("mixer")
    if target(task) == "ContrastiveDistillation":
        return "crd"
    distilled = target(task) == "Distillation" or _target_value(task, "kd_weight") is not None
    if not mixer:
        return "kd" if distilled else "plain"
    distilled = distilled or bool(_target_value(config.get("mixing"), "distillation_weight"))  # by the callback
    return ("kd_" if distilled else "ce_") + target(mixer).lower()


def _other_views(config: Mapping[str, Any]) -> str | None:
    """Return where the views of a run on CIFAR-100 or ImageNet come from, if that is the other of the two."""
    padded = target(_target_value(config.get("data"), "augment")) == "SmallImageView"  # crop, policy, Cutout
    return {("imagenet", True): "cifar", ("cifar100", False): "imagenet"}.get((dataset(config), padded))


def _has_example_policy(config: Mapping[str, Any]) -> bool:
    """Return whether the views come from the policy that ships with the package, which is not a published one."""
    augment = _target_value(config.get("data"), "augment")
    return "example" in (_target_value(augment, "policy"), _target_value(_target_value(augment, "policy"), "policy"))


def _target_value(node: Any, name: str) -> Any:
    return node.get(name) if isinstance(node, dict) else None
