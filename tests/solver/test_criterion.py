"""When a set is solved."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from supermix_pl.solver.criterion import class_membership, margin
from tests import oracle
from tests.problems import repeatable


def test_membership_marks_distinct_classes() -> None:
    membership = class_membership(torch.tensor([[0, 2], [1, 1], [3, 0]]), 4)
    assert membership.int().tolist() == [[1, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 1]]


def test_margin_is_the_worst_inside_minus_the_best_outside() -> None:
    logits = torch.tensor([[5.0, 1.0, 3.0, 2.0], [5.0, 1.0, 3.0, 2.0]])
    membership = class_membership(torch.tensor([[0, 2], [1, 2]]), 4)
    assert margin(logits, membership).tolist() == [1.0, -4.0]


def test_ties_are_failures() -> None:
    logits = torch.tensor([[2.0, 1.0, 1.0]])
    assert margin(logits, class_membership(torch.tensor([[0, 1]]), 3)).tolist() == [0.0]


def test_every_class_inside_is_solved_whatever_the_logits() -> None:
    logits = torch.tensor([[2.0, -50.0, 1.0]])
    membership = class_membership(torch.tensor([[0, 1, 2]]), 3)
    assert margin(logits, membership).tolist() == [torch.inf]


@given(
    logits=st.lists(st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0, 3.0]), min_size=5, max_size=5),
    classes=st.lists(st.integers(0, 4), min_size=1, max_size=5),
)
@repeatable
def test_positive_where_the_top_classes_are_those_of_the_set(logits: list[float], classes: list[int]) -> None:
    wanted = set(classes)
    ranking = sorted(range(5), key=lambda label: (-logits[label], label in wanted))  # a tie falls out of the set
    solved = set(ranking[: len(wanted)]) == wanted
    ours = margin(torch.tensor([logits]), class_membership(torch.tensor([classes]), 5))
    assert bool(ours[0] > 0) == solved
    lowest, highest = oracle.lowest_and_highest(torch.tensor(logits).numpy(), classes)
    assert ours.item() == lowest - highest
