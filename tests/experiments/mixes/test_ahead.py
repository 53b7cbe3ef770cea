"""Reading ahead: what is given does not depend on it, and what comes next is there before it is asked for."""

import copy
import threading

import pytest

from supermix_pl.experiments.mixes.replay import ReadAhead

Key = tuple[tuple[int, ...], int, int]


class Reader:
    def __init__(self) -> None:
        self.by_asker: list[int] = []
        self.read: list[int] = []

    def __call__(self, stream: tuple[int, ...], number: int, size: int) -> Key:
        if threading.current_thread() is threading.main_thread():
            self.by_asker.append(number)
        self.read.append(number)
        return stream, number, size


@pytest.mark.parametrize(
    ("asked", "late"),
    [
        (range(30), [0, 1]),
        (range(7, 300, 10), [7, 17]),  # every tenth batch is mixed
        ([0, 2, 3, 4, 6, 7, 10, 11, 16], [0, 2, 3, 16]),  # chance decides
        ([5, 6, 7, 0, 1, 2], [5, 6, 0]),  # another training
    ],
    ids=["all", "some", "chance", "anew"],
)
def test_what_comes_next_is_read_before(asked: list[int], late: list[int]) -> None:
    reader = Reader()
    ahead = ReadAhead(reader)
    assert [ahead.get((1, 2), number, 4) for number in asked] == [((1, 2), number, 4) for number in asked]
    ahead.stop()
    assert reader.by_asker == late
    assert len(reader.read) <= len(list(asked)) + 12


def test_another_order_or_size_is_read_anew() -> None:
    ahead = ReadAhead(Reader())
    keys = [((1,), 0, 4), ((1,), 1, 4), ((2,), 2, 4), ((2,), 3, 5)]
    assert [ahead.get(*key) for key in keys] == keys
    assert copy.deepcopy(ahead).get((2,), 4, 5) == ((2,), 4, 5)
    ahead.stop()
    assert ahead.get((2,), 4, 5) == ((2,), 4, 5)
    ahead.stop()


def test_what_a_thread_fails_at_is_raised_where_it_is_asked_for() -> None:
    def read(stream: tuple[int, ...], number: int, size: int) -> int:
        if number == 4:
            raise ValueError("damaged")
        return number

    ahead = ReadAhead(read)
    assert [ahead.get((), number, 1) for number in range(4)] == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="damaged"):
        ahead.get((), 4, 1)
    ahead.stop()
