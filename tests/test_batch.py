"""Fields of batches of any kind: read, replaced, repeated."""

import copy
import dataclasses
from collections import OrderedDict, UserDict, deque, namedtuple
from collections.abc import Callable
from operator import attrgetter, itemgetter
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.utils.rnn import pack_sequence, unpack_sequence
from torchvision import tv_tensors

from supermix_pl.batch import Key, extend_fields, get_field, is_exhausted, set_field
from tests.problems import repeatable

IMAGES, LABELS, IDS, NEW = torch.rand(3, 1, 2, 2), torch.tensor([4, 5, 6]), torch.tensor([7, 8, 9]), torch.rand(5)


class Named(NamedTuple):
    image: Any
    label: Any
    ids: Any = None


Bare = namedtuple("Bare", ["label", "image"])


@dataclasses.dataclass
class Data:
    image: Any
    label: Any
    ids: Any = None


@dataclasses.dataclass(frozen=True)
class FrozenData:
    image: Any
    label: Any
    ids: Any = None


@dataclasses.dataclass(frozen=True, slots=True)
class SlottedData:
    image: Any
    label: Any
    ids: Any = None


class Plain:
    def __init__(self, image: Any, label: Any, ids: Any = None) -> None:
        self.image, self.label, self.ids = image, label, ids


class Slotted:
    __slots__ = ("ids",)

    def __init__(self, ids: Any) -> None:
        self.ids = ids


PLACES: dict[str, tuple[Any, Key, Callable[[Any], Any]]] = {
    "list": ([IMAGES, LABELS], 0, itemgetter(0)),
    "tuple": ((IMAGES, LABELS), 1, itemgetter(1)),
    "negative position": ([IMAGES, LABELS, IDS], -1, itemgetter(2)),
    "position as a path": ([IMAGES, LABELS], "1", itemgetter(1)),
    "dict": ({"x": IMAGES, "y": LABELS}, "y", itemgetter("y")),
    "integer name": ({0: IMAGES, 1: LABELS}, 1, itemgetter(1)),
    "number as a name": ({"0": IMAGES, "1": LABELS}, 0, itemgetter("0")),
    "ordered dict": (OrderedDict(x=IMAGES, y=LABELS), "x", itemgetter("x")),
    "user dict": (UserDict(x=IMAGES, y=LABELS), "x", itemgetter("x")),
    "named tuple by name": (Named(IMAGES, LABELS), "label", attrgetter("label")),
    "named tuple by position": (Bare(LABELS, IMAGES), 1, attrgetter("image")),
    "named tuple by negative position": (Bare(LABELS, IMAGES), -2, attrgetter("label")),
    "data class": (Data(IMAGES, LABELS), "image", attrgetter("image")),
    "frozen data class": (FrozenData(IMAGES, LABELS), "image", attrgetter("image")),
    "slotted data class": (SlottedData(IMAGES, LABELS), "label", attrgetter("label")),
    "object": (Plain(IMAGES, LABELS), "label", attrgetter("label")),
    "path": ({"a": [{"x": IMAGES}, LABELS]}, "a.0.x", lambda batch: batch["a"][0]["x"]),
    "path of positions": ([[IMAGES, LABELS], IDS], "0.1", lambda batch: batch[0][1]),
    "path with a negative position": ([IDS, (IMAGES, LABELS)], "-1.-2", lambda batch: batch[1][0]),
    "path through names": (Named(Data(IMAGES, LABELS), IDS), "image.label", lambda batch: batch.image.label),
    "path to a numeric name": ({"a": {"0": IMAGES}}, "a.0", lambda batch: batch["a"]["0"]),
    "name with a dot": ({"x.y": IMAGES, "x": {"y": LABELS}}, "x.y", itemgetter("x.y")),
}


def containers_of(value: Any) -> list[Any]:
    """Everything in a batch that is no tensor, by identity, with a copy of what it holds."""
    if isinstance(value, Tensor | np.ndarray | str | int | float | None):
        return []
    children = list(value.values()) if isinstance(value, dict | UserDict) else None
    if children is None:
        children = (
            list(value)
            if isinstance(value, list | tuple)
            else [getattr(value, name) for name in ("image", "label", "ids")]
        )
    return [(value, children)] + [inner for child in children for inner in containers_of(child)]


def assert_untouched(before: list[Any], batch: Any) -> None:
    after = containers_of(batch)
    assert len(before) == len(after)
    for (container, children), (same, now) in zip(before, after, strict=True):
        assert same is container
        assert all(one is other for one, other in zip(children, now, strict=True))


@pytest.mark.parametrize("place", PLACES)
def test_get(place: str) -> None:
    batch, key, read = PLACES[place]
    assert get_field(batch, key) is read(batch)


@pytest.mark.parametrize("place", PLACES)
def test_set_gives_a_batch_of_the_same_kind_and_leaves_the_old_one_alone(place: str) -> None:
    batch, key, read = PLACES[place]
    before = containers_of(batch)
    changed = set_field(batch, key, NEW)
    assert type(changed) is type(batch)
    assert read(changed) is NEW
    assert get_field(changed, key) is NEW
    assert_untouched(before, batch)
    restored = set_field(changed, key, read(batch))
    pairs = zip(containers_of(restored), before, strict=True)
    for (ours, children), (theirs, expected) in pairs:
        assert type(ours) is type(theirs)
        for one, other in zip(children, expected, strict=True):
            assert one is other or not isinstance(one, Tensor)


def test_callables() -> None:
    batch = {"x": IMAGES, "y": LABELS}

    def put(batch: Any, value: Any) -> None:
        batch["x"] = value

    giving: Key = (itemgetter("y"), lambda batch, value: {**batch, "y": value})
    assert get_field(batch, giving) is LABELS
    changed = set_field(batch, giving, NEW)
    assert changed["y"] is NEW
    assert batch["y"] is LABELS
    changing: Key = (itemgetter("x"), put)
    assert set_field(batch, changing, NEW) is batch
    assert batch["x"] is NEW


@pytest.mark.parametrize(
    ("batch", "key", "expected"),
    [
        ([IMAGES, LABELS], 2, "the field 2, got a list of 2 without 2"),
        ((IMAGES,), -2, "the field -2, got a tuple of 1 without -2"),
        ({"x": IMAGES, "y": LABELS}, "z", "the field 'z', got a dict with keys ['x', 'y'] without 'z'"),
        ({"x": IMAGES}, 0, "the field 0, got a dict with keys ['x'] without 0"),
        (UserDict(x=IMAGES), "z", "got a UserDict with keys ['x'] without 'z'"),
        ({"a": [IMAGES]}, "a.1", "the field 'a.1', got a list of 1 without 1"),
        ({"a": [IMAGES]}, "b.1", "the field 'b.1', got a dict with keys ['a'] without 'b'"),
        (Named(IMAGES, LABELS), "z", "got a Named with fields ['image', 'label', 'ids'] without 'z'"),
        (Named(IMAGES, LABELS), 3, "got a Named with fields ['image', 'label', 'ids'] without 3"),
        (Data(IMAGES, LABELS), "z", "got a Data with fields ['image', 'label', 'ids'] without 'z'"),
        (SlottedData(IMAGES, LABELS), 0, "got a SlottedData with fields ['image', 'label', 'ids'] without 0"),
        (Plain(IMAGES, LABELS), "z", "got a Plain with fields ['image', 'label', 'ids'] without 'z'"),
        ([IMAGES, LABELS], "shape", "got a list of 2 without 'shape'"),
        (IMAGES, 0, "got a Tensor without 0"),
        (None, "x", "got a NoneType without 'x'"),
    ],
)
def test_missing_fields(batch: Any, key: Key, expected: str) -> None:
    with pytest.raises(KeyError) as error:
        get_field(batch, key)
    assert expected in error.value.args[0]
    assert "give input_key= and target_key= as a position, a name, a dotted path or a pair" in error.value.args[0]


# Repeating


def same(first: Any, second: Any) -> bool:
    """Equality in depth, types included."""
    if type(first) is not type(second):
        return False
    if isinstance(first, Tensor):
        return torch.equal(first, second)
    if isinstance(first, np.ndarray):
        return first.dtype == second.dtype and np.array_equal(first, second)
    if isinstance(first, dict | UserDict):
        return list(first) == list(second) and all(same(first[name], second[name]) for name in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(same(*pair) for pair in zip(first, second, strict=True))
    if hasattr(first, "image"):
        return all(same(getattr(first, name), getattr(second, name)) for name in ("image", "label", "ids"))
    return first == second


TWICE = torch.tensor([7, 8, 9, 7, 8, 9])
FIELDS: list[tuple[Any, Any]] = [
    (IDS, TWICE),
    (IDS.numpy(), TWICE.numpy()),
    (torch.eye(3), torch.eye(3).repeat(2, 1)),
    (["a", "b", "c"], ["a", "b", "c"] * 2),
    (("a", "b", "c"), ("a", "b", "c") * 2),
    ([1, 2.5, None], [1, 2.5, None] * 2),
    ([torch.rand(2), torch.rand(5), torch.rand(1)], None),
    ([{"boxes": torch.zeros(1, 4)}, {"boxes": torch.zeros(2, 4)}, {"boxes": torch.zeros(7, 4)}], None),
    ({"deep": [IDS, ("a", "b", "c")]}, {"deep": [TWICE, ("a", "b", "c") * 2]}),
    (Named(IDS, 3.0), Named(TWICE, 3.0)),
    (Data(IDS, "abc"), Data(TWICE, "abc")),
    (FrozenData(IDS, None), FrozenData(TWICE, None)),
]
NOT_PER_SAMPLE: list[Any] = [
    torch.tensor(3.0),
    torch.arange(4),
    np.array(3.0),
    np.arange(4),
    "abc",
    b"abc",
    3,
    None,
    ["a", "b"],
    ("a", "b", "c", "d"),
    {"a": 1, "b": 2, "c": 3},
    [],
    Named(1, 2),
]


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: type(field[0]).__name__)
def test_fields_with_a_row_a_sample_are_repeated(field: tuple[Any, Any]) -> None:
    value, twice = field
    batch = {"x": IMAGES, "y": LABELS, "more": value}
    before, kept = containers_of(batch), copy.deepcopy(batch)
    extended = extend_fields(batch, "x", "y", 3)
    assert same(extended["more"], value * 2 if twice is None else twice)
    assert same([extended["x"], extended["y"]], [IMAGES, LABELS])
    assert_untouched(before, batch)
    assert same(batch, kept)


@pytest.mark.parametrize("rows", [[2], [1, 0], [0, 1, 2, 2, 0]], ids=str)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage:UserWarning")
def test_some_rows_are_put_behind(rows: list[int]) -> None:
    parts, order = sequences(3), [0, 1, 2, *rows]
    fields = [IDS, IDS.numpy(), ["a", "b", "c"], torch.eye(3).to_sparse(), torch.nested.as_nested_tensor(parts)]
    fields.append(pack_sequence(parts, enforce_sorted=False))
    ids, array, names, sparse, nested, packed = extend_fields([IMAGES, LABELS, *fields], 0, 1, 3, rows)[2:]
    assert same([ids, array], [IDS[order], IDS.numpy()[order]])
    assert names == [["a", "b", "c"][row] for row in order]
    assert same(sparse.to_dense(), torch.eye(3)[order])
    assert same([*nested.unbind()], [parts[row] for row in order])
    assert same(unpack_sequence(packed), [parts[row] for row in order])


@pytest.mark.parametrize("value", NOT_PER_SAMPLE, ids=repr)
def test_other_fields_stay(value: Any) -> None:
    extended = extend_fields({"x": IMAGES, "y": LABELS, "more": value}, "x", "y", 3)
    assert same(extended["more"], value)


@pytest.mark.parametrize(
    ("kind", "input_key", "target_key"),
    [
        (lambda *fields: list(fields), 0, 1),
        (lambda *fields: fields, -3, -2),
        (Named, "image", "label"),
        (Named, 0, 1),
        (Data, "image", "label"),
        (FrozenData, "image", "label"),
        (SlottedData, "image", "label"),
        (Plain, "image", "label"),
        (lambda *fields: dict(zip("xyz", fields, strict=True)), "x", "y"),
        (lambda *fields: UserDict(zip("xyz", fields, strict=True)), "x", "y"),
    ],
)
def test_containers_of_every_kind(kind: Any, input_key: Key, target_key: Key) -> None:
    batch = kind(IMAGES, LABELS, IDS)
    before = containers_of(batch) if not isinstance(batch, UserDict) else []
    extended = extend_fields(batch, input_key, target_key, 3)
    assert same(extended, kind(IMAGES, LABELS, TWICE))
    if before:
        assert_untouched(before, batch)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("kind", [list, tuple])
def test_as_many_images_as_the_batch_has_fields(kind: type, size: int) -> None:
    images, labels, ids = torch.rand(size, 1), torch.arange(size), [f"{i}" for i in range(size)]
    fields = [images, labels, ids][:size] if size == 3 else [images, labels]
    extended = extend_fields(kind(fields), 0, 1, size)
    assert same(extended, kind([images, labels, ids * 2][: len(fields)]))
    nested = extend_fields({"a": kind([images, labels]), "ids": ids}, "a.0", "a.1", size)
    assert same(nested, {"a": kind([images, labels]), "ids": ids})  # beside the smallest common container


def test_a_list_of_samples_of_which_one_has_as_many_rows_as_there_are_samples() -> None:
    boxes = [torch.zeros(1, 4), torch.zeros(3, 4), torch.zeros(7, 4)]
    assert same(extend_fields([IMAGES, LABELS, boxes], 0, 1, 3)[2], boxes * 2)


def test_a_list_of_as_many_fields_as_there_are_samples() -> None:
    fields = [IDS, ["a", "b", "c"], IDS.numpy()]
    assert same(extend_fields([IMAGES, LABELS, fields], 0, 1, 3)[2], [TWICE, ["a", "b", "c"] * 2, TWICE.numpy()])


@pytest.mark.parametrize("kind", [dict, Named, Data])
def test_a_list_of_one_container_a_sample_of_which_all_have_as_many_rows_as_there_are_samples(kind: Any) -> None:
    samples = [kind(image=torch.zeros(3, 4), label=["a", "b", "c"]) for _ in range(3)]
    extended = extend_fields([IMAGES, LABELS, samples], 0, 1, 3)[2]
    assert len(extended) == 6
    assert all(one is other for one, other in zip(extended, samples * 2, strict=True))


def sequences(count: int, longest: int = 3) -> list[Tensor]:
    return [torch.rand(1 + row % longest, 2) for row in range(count)]


@pytest.mark.parametrize("in_order", [False, True])
@pytest.mark.parametrize("longest", [1, 3])
def test_packed_sequences_are_repeated_as_a_whole(in_order: bool, longest: int) -> None:
    """One of three sequences of length 1 has as many rows in each of its own fields as there are samples."""
    parts = sorted(sequences(3, longest), key=len, reverse=True) if in_order else sequences(3, longest)
    packed = pack_sequence(parts, enforce_sorted=in_order)
    extended = extend_fields([IMAGES, LABELS, packed], 0, 1, 3)[2]
    assert same(unpack_sequence(extended), 2 * parts)
    assert same(unpack_sequence(packed), parts)


def test_packed_sequences_of_another_number_stay() -> None:
    for packed in (pack_sequence(sequences(2), enforce_sorted=False), pack_sequence(3 * sequences(2, 1))):
        assert extend_fields([IMAGES, LABELS, packed], 0, 1, 3)[2] is packed


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage:UserWarning")
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
def test_nested_tensors(layout: torch.layout) -> None:
    three, four = sequences(3), torch.nested.as_nested_tensor(sequences(4), layout=layout)
    nested = torch.nested.as_nested_tensor(three, layout=layout)
    extended = extend_fields([IMAGES, LABELS, nested, four], 0, 1, 3)
    assert extended[2].layout == layout
    assert same([*extended[2].unbind()], 2 * three)
    assert extended[3] is four


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta state:UserWarning")
def test_sparse_tensors() -> None:
    extended = extend_fields([IMAGES, LABELS, torch.eye(3).to_sparse()], 0, 1, 3)[2]
    assert same(extended.to_dense(), torch.eye(3).repeat(2, 1))
    with pytest.raises(TypeError, match=r"shape \(3, 3\) and layout torch.sparse_csr; collate it into a dense or COO"):
        extend_fields([IMAGES, LABELS, torch.eye(3).to_sparse_csr()], 0, 1, 3)
    other = torch.eye(4).to_sparse_csr()
    assert extend_fields([IMAGES, LABELS, other], 0, 1, 3)[2] is other


def test_tensors_of_a_class_stay_of_it() -> None:
    boxes: Any = tv_tensors.BoundingBoxes(torch.rand(3, 4), format="XYWH", canvas_size=(2, 2))  # pyright: ignore[reportCallIssue]
    masks = tv_tensors.Mask(torch.rand(3, 2, 2))
    twice = extend_fields([IMAGES, LABELS, boxes, masks], 0, 1, 3)
    for old, fresh in zip((boxes, masks), twice[2:], strict=True):
        assert type(fresh) is type(old)
        assert vars(fresh) == vars(old)
        assert fresh.equal(torch.cat([old, old]))


def test_arrays_of_every_kind_stay_of_their_kind() -> None:
    record = np.array([(1, 0.5), (2, 1.5), (3, 2.5)], dtype=[("a", int), ("b", float)])
    masked = np.ma.masked_array(np.arange(3), mask=[False, True, False])
    extended = extend_fields([IMAGES, LABELS, record, record.view(np.recarray), masked], 0, 1, 3)
    assert extended[2]["a"].tolist() == [1, 2, 3, 1, 2, 3]
    assert isinstance(extended[3], np.recarray)
    assert extended[3].b.tolist() == 2 * [0.5, 1.5, 2.5]
    assert extended[4].tolist() == [0, None, 2, 0, None, 2]


class Counted(list):
    """Built from a number, not from its entries."""

    def __init__(self, count: int, note: str) -> None:
        super().__init__(range(count))
        self.note = note


class Measured(namedtuple("Measured", ["ids", "count"])):
    __slots__ = ()

    def __new__(cls, ids: Tensor) -> "Measured":
        return super().__new__(cls, ids, len(ids))


def test_containers_whose_classes_are_built_from_other_arguments() -> None:
    fields = {"list": Counted(3, "a"), "short": Counted(2, "b"), "named": Measured(IDS)}
    batch = MappingProxyType({"x": IMAGES, "y": LABELS, **fields})  # cannot be written to
    extended = extend_fields(batch, "x", "y", 3)
    assert isinstance(extended, MappingProxyType)
    assert (extended["list"], extended["list"].note) == (2 * [0, 1, 2], "a")
    assert (extended["short"], extended["short"].note) == ([0, 1], "b")
    assert isinstance(extended["named"], Measured)
    assert same(extended["named"].ids, TWICE)
    assert fields["list"] == [0, 1, 2]


def test_a_shape_is_no_list_of_samples() -> None:
    assert extend_fields([IMAGES, LABELS, torch.Size([1, 2, 2])], 0, 1, 3)[2] == (1, 2, 2)


def test_foreign_objects_are_left_alone() -> None:
    normal = torch.distributions.Normal(torch.zeros(3), 1.0)
    other = Plain(IDS, IDS)
    foreign = [normal, other, Slotted(IDS), {1, 2, 3}, deque([1, 2, 3]), range(3), bytearray(b"abc"), "abc"]
    frame = pd.DataFrame({"a": [1, 2, 3]})
    extended = extend_fields({"x": IMAGES, "y": LABELS, **dict(enumerate([*foreign, frame]))}, "x", "y", 3)
    assert all(extended[place] is value for place, value in enumerate([*foreign, frame]))
    assert other.image is IDS


def test_objects_on_the_way_to_images_and_labels_are_repeated() -> None:
    batch = Plain(Plain(IMAGES, IDS), Plain(IDS, LABELS, "abc"), Plain(IDS, IDS))
    extended = extend_fields(batch, "image.image", "label.label", 3)
    assert same([extended.image.image, extended.image.label], [IMAGES, TWICE])
    assert same([extended.label.image, extended.label.label, extended.label.ids], [TWICE, LABELS, "abc"])
    assert extended.ids is batch.ids
    assert same([batch.image.label, batch.label.image], [IDS, IDS])


@pytest.mark.parametrize("key", ["x", (itemgetter("x"), lambda batch, value: {**batch, "x": value})])
def test_what_refers_to_itself(key: Key) -> None:
    batch: dict[str, Any] = {"x": IMAGES, "y": LABELS, "ids": IDS, "owner": Plain(None, None), "list": []}
    batch["owner"].image, batch["owner"].label, batch["self"] = batch["owner"], batch, batch
    batch["list"].append(batch["list"])
    extended = extend_fields(batch, key, "y", 3)
    assert extended["owner"] is batch["owner"]
    assert same([extended["x"], extended["y"], extended["ids"]], [IMAGES, LABELS, TWICE])


@pytest.mark.parametrize(
    ("batch", "key", "expected"),
    [
        ({"a": None, "b": [IMAGES]}, "a", True),
        ({"a": None, "b": [IMAGES]}, "a.0", True),
        ({"a": None, "b": [IMAGES]}, "b.0", False),
        ([None, IMAGES], "0.image", True),
        ([None, IMAGES], 1, False),
        ({"a": None}, (itemgetter("a"), itemgetter("a")), True),
    ],
)
def test_data_loaders_that_have_run_out(batch: Any, key: Key, expected: bool) -> None:
    assert is_exhausted(batch, key) == expected


def test_images_and_labels_in_different_depths() -> None:
    batch = {"views": [(IMAGES, IDS), {"y": LABELS, "ids": IDS}], "ids": IDS}
    extended = extend_fields(batch, "views.0.0", "views.1.y", 3)
    assert same(extended, {"views": [(IMAGES, TWICE), {"y": LABELS, "ids": TWICE}], "ids": IDS})
    flat = extend_fields({"x": IMAGES, "info": {"y": LABELS, "ids": IDS}, "ids": IDS}, "x", "info.y", 3)
    assert same(flat, {"x": IMAGES, "info": {"y": LABELS, "ids": TWICE}, "ids": TWICE})


@pytest.mark.parametrize("wrap", [lambda a, b: {"a": a, "b": b}, lambda a, b: [a, b]])
def test_batches_of_other_data_loaders_are_left_alone(wrap: Callable[[Any, Any], Any]) -> None:
    first, second = [IMAGES, LABELS, IDS], [IMAGES + 1, LABELS, ["a", "b", "c"]]
    batch = wrap(first, second)
    start = "a" if isinstance(batch, dict) else "0"
    extended = extend_fields(batch, f"{start}.0", f"{start}.1", 3)
    assert same(extended, wrap([IMAGES, LABELS, TWICE], second))
    assert (extended["b"] if isinstance(batch, dict) else extended[1]) is second


def test_another_field_with_the_very_same_tensor_is_repeated() -> None:
    batch = {"x": IMAGES, "y": LABELS, "original": IMAGES, "again": LABELS}
    extended = extend_fields(batch, "x", "y", 3)
    assert same(extended["original"], torch.cat([IMAGES, IMAGES]))
    assert same(extended["again"], torch.cat([LABELS, LABELS]))
    assert same([extended["x"], extended["y"]], [IMAGES, LABELS])


def test_callables_look_at_the_whole_batch() -> None:
    batch = {"a": {"x": IMAGES, "y": LABELS}, "ids": IDS}
    key: Key = (lambda batch: batch["a"]["x"], lambda batch, value: None)
    assert same(extend_fields(batch, key, "a.y", 3), {"a": {"x": IMAGES, "y": LABELS}, "ids": TWICE})


leaves = st.sampled_from([IDS, IDS.numpy(), torch.eye(3), torch.arange(4), 3.5, "abc", None, torch.tensor(1)])
structures = st.recursive(
    leaves,
    lambda children: st.one_of(
        st.lists(children, min_size=4, max_size=5),
        st.lists(children, min_size=4, max_size=5).map(tuple),
        st.dictionaries(st.sampled_from("abc"), children, max_size=3),
        st.builds(Named, children, children, children),
        st.builds(Data, children, children, children),
        st.builds(FrozenData, children, children, children),
    ),
    max_leaves=8,
)


def doubled(value: Any) -> Any:
    """What should become of a structure none of whose lists is as long as the batch."""
    if isinstance(value, Tensor):
        return torch.cat([value, value]) if value.shape[:1] == (3,) else value
    if isinstance(value, np.ndarray):
        return np.concatenate([value, value])
    if isinstance(value, dict):
        return {name: doubled(child) for name, child in value.items()}
    if isinstance(value, Named):
        return Named(*map(doubled, value))
    if isinstance(value, list | tuple):
        return type(value)(map(doubled, value))
    if isinstance(value, Data | FrozenData):
        return type(value)(doubled(value.image), doubled(value.label), doubled(value.ids))
    return value


@given(extra=structures, inside=st.lists(st.sampled_from(["list", "dict", "named"]), max_size=3), before=st.booleans())
@repeatable
def test_any_structure(extra: Any, inside: list[str], before: bool) -> None:
    def wrapped(pair: Any, extra: Any) -> tuple[Any, list[str]]:
        """The common container of images and labels, in others; and the way to it."""
        batch, path = pair, []
        for kind in inside:
            if kind == "list":
                batch, path = ([extra, batch], ["1", *path]) if before else ([batch, extra], ["0", *path])
            elif kind == "dict":
                batch, path = {"a": extra, "b": batch}, ["b", *path]
            else:
                batch, path = Named(extra, batch), ["label", *path]
        return batch, path

    batch, path = wrapped({"x": IMAGES, "y": LABELS, "more": extra}, extra)
    kept, untouched = copy.deepcopy(batch), containers_of(batch)
    input_key, target_key = ".".join([*path, "x"]), ".".join([*path, "y"])
    extended = extend_fields(batch, input_key, target_key, 3)
    assert same(extended, wrapped({"x": IMAGES, "y": LABELS, "more": doubled(extra)}, extra)[0])
    assert same(batch, kept)
    assert_untouched(untouched, batch)
    changed = set_field(extended, input_key, NEW)
    assert get_field(changed, input_key) is NEW
    assert same(get_field(changed, target_key), LABELS)
