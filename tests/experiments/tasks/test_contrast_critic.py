"""The critic of contrastive distillation against a plain one: float64, one sample and one direction at a time."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from supermix_pl.experiments.tasks.contrast_critic import (
    ContrastCritic,
    EmbeddingMemory,
    draw_negatives,
    stream_generator,
)

LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 0])


class PlainCritic:
    """Written from Section 3 of the CRD paper and from notes on its experiments; takes the networks' embeddings."""

    def __init__(self, critic: ContrastCritic, *, temperature: float, momentum: float) -> None:
        self.temperature, self.momentum = temperature, momentum
        self.student_rows = [row.double().clone() for row in critic.student_memory.rows]
        self.teacher_rows = [row.double().clone() for row in critic.teacher_memory.rows]
        self.normalizers: dict[str, float] = {}

    def loss(self, student: Tensor, teacher: Tensor, indices: list[int], negatives: list[list[int]]) -> Tensor:
        """Student against the teacher's memory, plus teacher against the student's."""
        return self._direction("teacher", student, self.teacher_rows, indices, negatives) + self._direction(
            "student", teacher, self.student_rows, indices, negatives
        )

    def _direction(
        self, memory: str, anchors: Tensor, rows: list[Tensor], indices: list[int], negatives: list[list[int]]
    ) -> Tensor:
        likeness = [
            [torch.exp((anchor * rows[j]).sum() / self.temperature) for j in [i, *others]]
            for anchor, i, others in zip(anchors, indices, negatives, strict=True)
        ]
        if memory not in self.normalizers:
            values = [value.item() for row in likeness for value in row]
            self.normalizers[memory] = sum(values) / len(values) * len(rows)
        total = torch.zeros((), dtype=torch.float64)
        for positive, *others in likeness:
            noise = len(others) / len(rows)
            p = positive / self.normalizers[memory]
            total = total - torch.log(p / (p + noise + 1e-7))
            for other in others:
                total = total - torch.log(noise / (other / self.normalizers[memory] + noise + 1e-7))
        return total / len(likeness)

    def update(self, student: Tensor, teacher: Tensor, indices: list[int]) -> None:
        for rows, embeddings in ((self.student_rows, student), (self.teacher_rows, teacher)):
            for i, embedding in zip(indices, embeddings.detach(), strict=True):
                moved = self.momentum * rows[i] + (1 - self.momentum) * embedding
                rows[i] = moved / math.sqrt(sum(value.item() ** 2 for value in moved))


def critic_of(labels: Any = LABELS, **options: Any) -> ContrastCritic:
    torch.manual_seed(0)
    sizes = {"student_features": 5, "teacher_features": 7, "embedding_size": 4, "num_negatives": 3}
    return ContrastCritic(labels, **{**sizes, **options})


def features(b: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(b, c, generator=generator, dtype=torch.float64) for c in (5, 7))  # pyright: ignore[reportReturnType]


def negatives_of(critic: ContrastCritic, indices: Tensor, stream: tuple[int, ...]) -> Tensor:
    generator = stream_generator("cpu", critic.seed, 0, *stream)
    return draw_negatives(critic.train_labels, indices, critic.num_negatives, generator, repeat=critic.repeat)


@pytest.mark.parametrize("num_negatives", [3, 20], ids=["each-once", "repeated"])
def test_losses_gradients_and_memories_of_three_batches(num_negatives: int) -> None:
    critic = critic_of(num_negatives=num_negatives, temperature=0.3, momentum=0.7, seed=2).double()
    plain = PlainCritic(critic, temperature=0.3, momentum=0.7)
    for step, batch in enumerate(([0, 4, 2], [7, 4, 10], [2, 1, 0])):
        indices = torch.tensor(batch)
        seen = [values.requires_grad_() for values in features(3, seed=step)]
        student, teacher = critic.embed(*seen)
        loss = critic(student, teacher, indices, stream=(0, step))
        names = [name for name, _ in critic.named_parameters()]
        gradients = torch.autograd.grad(loss, [*critic.parameters(), *seen], retain_graph=True)
        expected = plain.loss(student, teacher, batch, negatives_of(critic, indices, (0, step)).tolist())
        torch.testing.assert_close(loss, expected)
        for name, gradient, other in zip(
            [*names, "student", "teacher"],
            gradients,
            torch.autograd.grad(expected, [*critic.parameters(), *seen]),
            strict=True,
        ):
            assert gradient.abs().max() > 1e-4, name
            torch.testing.assert_close(gradient, other, msg=name)
        critic.update(indices, student.detach(), teacher.detach())
        plain.update(student, teacher, batch)
        torch.testing.assert_close(critic.student_memory.rows, torch.stack(plain.student_rows))
        torch.testing.assert_close(critic.teacher_memory.rows, torch.stack(plain.teacher_rows))
        assert float(critic.teacher_memory.normalizer) == pytest.approx(plain.normalizers["teacher"])
        assert float(critic.student_memory.normalizer) == pytest.approx(plain.normalizers["student"])


def test_embeddings_are_linear_and_of_length_one() -> None:
    critic = critic_of().double()
    seen, _ = features(3, seed=0)
    student, _ = critic.embed(*features(3, seed=0))
    linear = seen @ critic.student_embedding.weight.T + critic.student_embedding.bias
    torch.testing.assert_close(student, linear / linear.square().sum(1, keepdim=True).sqrt())


@given(
    labels=st.lists(st.integers(0, 3), min_size=2, max_size=30).filter(lambda labels: len(set(labels)) > 1),
    count=st.integers(1, 40),
    seed=st.integers(0, 5),
)
def test_negatives_are_of_other_classes_and_come_once_where_they_can(labels: list[int], count: int, seed: int) -> None:
    critic = critic_of(np.array(labels), num_negatives=count, seed=seed)
    anchors = torch.arange(len(labels))
    drawn = negatives_of(critic, anchors, (0, 0))
    assert drawn.shape == (len(labels), count)
    fewest = min(sum(other != label for other in labels) for label in labels)
    assert critic.repeat == (count > fewest)
    for label, row in zip(labels, drawn.tolist(), strict=True):
        assert all(labels[negative] != label for negative in row)
        assert critic.repeat or len(set(row)) == count


@pytest.mark.parametrize(("repeat", "count"), [(False, 4), (True, 9)])
def test_every_sample_of_another_class_is_as_likely_a_negative(repeat: bool, count: int) -> None:
    labels, times = torch.from_numpy(LABELS), 3000
    anchors = torch.arange(3).repeat_interleave(times)
    drawn = draw_negatives(labels, anchors, count, stream_generator("cpu", 0), repeat=repeat)
    for label, rows in enumerate(drawn.split(times)):
        counts = rows.flatten().bincount(minlength=len(labels))[labels != label]
        expected = times * count / len(counts)
        assert ((counts - expected).abs() < 5 * math.sqrt(expected)).all()


def test_negatives_depend_on_their_stream_alone() -> None:
    critic, indices = critic_of(), torch.tensor([3, 1])
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = negatives_of(critic, indices, (0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert torch.equal(negatives_of(critic, indices, (0, 1)), first)
    others = [negatives_of(critic, indices, stream) for stream in ((1, 1), (0, 2))]
    others.append(negatives_of(critic_of(seed=1), indices, (0, 1)))
    assert not any(torch.equal(other, first) for other in others)


def memory(rows: int = 6, size: int = 3, seed: int = 0) -> EmbeddingMemory:
    return EmbeddingMemory(rows, size, temperature=0.5, momentum=0.25, generator=torch.Generator().manual_seed(seed))


def test_first_rows_fill_their_range_and_follow_the_seed_alone() -> None:
    bound = 1 / math.sqrt(128 / 3)
    rows = memory(400, 128).rows
    assert rows.abs().max() <= bound
    torch.testing.assert_close(rows.std(), torch.tensor(bound / math.sqrt(3)), rtol=0.02, atol=0)
    torch.manual_seed(5)
    first, again, other = critic_of(seed=3), critic_of(seed=3), critic_of(seed=4)
    assert torch.equal(first.student_memory.rows, again.student_memory.rows)
    assert not torch.equal(first.student_memory.rows, other.student_memory.rows)
    assert not torch.equal(first.student_memory.rows, first.teacher_memory.rows)


def test_first_batch_of_all_ranks_fixes_the_normalizer() -> None:
    kept, averaged = memory(), []

    def mean_over_ranks(value: Tensor) -> Tensor:
        averaged.append(float(value))
        return value + 2

    candidates = torch.tensor([[0, 1, 2], [3, 4, 5]])
    anchors = torch.eye(3)[:2]
    likeness = kept.likeness(anchors, candidates, mean_over_ranks)
    raw = torch.stack([(kept.rows[row] @ anchor / 0.5).exp() for row, anchor in zip(candidates, anchors, strict=True)])
    assert averaged == [pytest.approx(float(raw.mean()))]
    assert float(kept.normalizer) == pytest.approx(6 * (float(raw.mean()) + 2))
    torch.testing.assert_close(likeness, raw / kept.normalizer)
    fixed = kept.normalizer.clone()
    kept.likeness(3 * anchors, candidates, mean_over_ranks)
    assert torch.equal(kept.normalizer, fixed)


def test_met_samples_move_and_others_stay() -> None:
    kept = memory()
    before = kept.rows.clone()
    kept.update(torch.tensor([4, 1]), torch.eye(3)[:2])
    expected = torch.stack([0.25 * before[4] + 0.75 * torch.eye(3)[0], 0.25 * before[1] + 0.75 * torch.eye(3)[1]])
    torch.testing.assert_close(kept.rows[[4, 1]], expected / expected.norm(dim=1, keepdim=True))
    assert torch.equal(kept.rows[[0, 2, 3, 5]], before[[0, 2, 3, 5]])


def test_of_a_sample_that_is_twice_in_the_batch_the_last_counts() -> None:
    twice, once = memory(), memory()
    twice.update(torch.tensor([2, 0, 2]), torch.eye(3))
    once.update(torch.tensor([0, 2]), torch.eye(3)[1:])
    assert torch.equal(twice.rows, once.rows)


def test_a_batch_of_other_indices_or_classes_is_refused() -> None:
    critic = critic_of()
    indices = torch.tensor([1, 3])
    critic.check_batch(indices, torch.from_numpy(LABELS)[indices])
    for wrong, labels in ((indices, [1, 1]), (torch.tensor([1, 11]), [1, 0]), (torch.tensor([1, -1]), [1, 0])):
        with pytest.raises(ValueError, match="expected indices below 11 and the classes that train_labels has there"):
            critic.check_batch(wrong, torch.tensor(labels))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"embedding_size": 0}, "expected embedding_size to be an integer >= 1, got 0"),
        ({"num_negatives": 0}, "expected num_negatives to be an integer >= 1, got 0"),
        ({"seed": -1}, "expected seed to be an integer >= 0, got -1"),
        ({"temperature": 0.0}, "expected temperature > 0, got 0.0"),
        ({"momentum": 1.0}, r"expected momentum in \[0, 1\), got 1.0"),
        ({"labels": np.zeros(5, dtype=np.int64)}, "expected training samples of two classes or more, got 1"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        critic_of(**options)
