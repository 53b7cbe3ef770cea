"""The solver's benchmark, end to end on the embedded data with a small network, and what it refuses."""

import json
import platform
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from supermix_pl import FrozenTeacher, SuperMix
from supermix_pl.experiments.bench import acceptance, arguments, solver
from supermix_pl.experiments.data import Shapes
from supermix_pl.experiments.networks import resnet8
from supermix_pl.transforms import RandomCropFlip

IMAGES = 20
MEAN, STD = (0.4, 0.5, 0.6), (0.3, 0.25, 0.2)
Run = Callable[..., tuple[str, dict]]


def shapes() -> torch.Tensor:
    data = Shapes(train_size=1, test_size=IMAGES, eval_batch_size=IMAGES, mean=MEAN, std=STD)
    data.setup()
    return next(iter(data.test_dataloader()))[0]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network whose predictions differ from image to image: calibrated, not trained."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        network = resnet8(num_classes=10)
        for _ in range(20):
            network(shapes())
        logits = network.eval()(shapes())
        network.fc.bias -= logits.mean(dim=0)
        network.fc.weight *= 5
        network.fc.bias *= 5
    path = tmp_path_factory.mktemp("teacher") / "small.pth"
    torch.save({"model": network.state_dict()}, path)
    return path


@pytest.fixture
def run(checkpoint: Path, tmp_path: Path) -> Run:
    """Run the command in a small setting; give the Markdown and the JSON that it wrote."""

    def run_command(*arguments: str) -> tuple[str, dict]:
        small = ["--network", "resnet8", "--checkpoint", str(checkpoint), "--data", "shapes", "--images", str(IMAGES)]
        statistics = ["--mean", *map(str, MEAN), "--std", *map(str, STD)]
        solver.main([*small, *statistics, "--threads", "1", "--output", str(tmp_path / "results"), *arguments])
        written = tmp_path / "results" / "solver_cpu"
        return written.with_suffix(".md").read_text(), json.loads(written.with_suffix(".json").read_text())

    return run_command


class CountingTeacher(FrozenTeacher):
    """Counts the images that it is shown."""

    seen = 0

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        self.seen += len(images)
        return super().__call__(images)


def recount(checkpoint: Path, mixer: SuperMix, batch_size: int, seed: int) -> dict[str, float]:
    """Count set by set, in plain loops."""
    network = resnet8(num_classes=10)
    network.load_state_dict(torch.load(checkpoint, weights_only=True)["model"])
    found = {"sets": 0, "attempted": 0, "solved": 0, "forwards": 0, "backwards": 0, "softness": 0.0}
    for number, images in enumerate(shapes().split(batch_size)):
        teacher = CountingTeacher(network)
        mix = mixer(teacher, images, seed=(seed, number))
        steps = mix.num_steps.tolist()
        rounds_with_gradient = [any(other > done for other in steps) for done in range(mixer.max_steps + 1)]
        all_forwards = all_backwards = 0
        for row, last_step in enumerate(steps):
            forwards = 1 + (last_step + 1)
            backwards = sum(rounds_with_gradient[: last_step + 1]) + (mixer.init == "saliency")
            all_forwards, all_backwards = all_forwards + forwards, all_backwards + backwards
            found["sets"] += 1
            if len(set(mix.source_classes[row].tolist())) < mixer.k:
                continue
            found["attempted"] += 1
            found["forwards"] += forwards
            found["backwards"] += backwards
            if int(mix.outcomes[row]) == 0:
                found["solved"] += 1
                found["softness"] += float((mix.masks[row] * (1 - mix.masks[row])).mean())
        assert (all_forwards, all_backwards) == (mix.teacher_forwards, mix.teacher_backwards)
        assert all_forwards == teacher.seen
    return found


def test_numbers_agree_with_a_recount(run: Run, checkpoint: Path) -> None:
    rows = ["default-10", "combined-10"]
    text, content = run("--parts", "acceptance", "--rows", *rows, "--seeds", "0", "1", "--batch-sizes", "12")
    assert [result["row"] for result in content["acceptance"]] == rows
    for result in content["acceptance"]:
        mixer = acceptance.ROWS[result["row"]]
        for trial, seed in zip(result["trials"], (0, 1), strict=True):
            expected = recount(checkpoint, mixer, 12, seed)
            assert {name: trial[name] for name in expected} == pytest.approx(expected)
            assert 0 < expected["solved"] < expected["attempted"] < expected["sets"], "the setting tests too little"
            assert trial["solved_share"] == pytest.approx(expected["solved"] / expected["attempted"])
            assert trial["forwards_a_solved_set"] == pytest.approx(expected["forwards"] / expected["solved"])
            assert trial["backwards_an_attempted_set"] == pytest.approx(expected["backwards"] / expected["attempted"])
            assert trial["mask_softness"] == pytest.approx(expected["softness"] / expected["solved"])
            assert trial["seconds"] > 0
    shares = [100 * trial["solved_share"] for trial in content["acceptance"][0]["trials"]]
    centre, spread = sum(shares) / 2, abs(shares[0] - shares[1]) / 2**0.5
    assert f"| default-10 | {centre:.1f} ± {spread:.1f} |" in text


def test_time_is_shared_out_by_passes(checkpoint: Path) -> None:
    network = resnet8(num_classes=10)
    network.load_state_dict(torch.load(checkpoint, weights_only=True)["model"])
    mix = SuperMix(max_steps=10)(FrozenTeacher(network), shapes(), seed=0)
    trial = acceptance.count(mix, SuperMix(max_steps=10), 3.0, 0)
    share = (trial.forwards + trial.backwards) / (mix.teacher_forwards + mix.teacher_backwards)
    assert 0 < share < 1
    assert trial.seconds == pytest.approx(3.0 * share)


def test_another_way_of_counting_is_noticed(checkpoint: Path) -> None:
    network = resnet8(num_classes=10)
    network.load_state_dict(torch.load(checkpoint, weights_only=True)["model"])
    mix = SuperMix(max_steps=3)(FrozenTeacher(network), shapes(), seed=0)
    with pytest.raises(RuntimeError, match="another way"):
        acceptance.set_passes(replace(mix, teacher_backwards=mix.teacher_backwards - 1), SuperMix(max_steps=3))


@pytest.mark.parametrize("view", [None, RandomCropFlip()])
@pytest.mark.parametrize("mixer", [SuperMix(max_steps=3), SuperMix.fast(max_steps=3)])
def test_passes_that_label_are_not_a_sets_own(checkpoint: Path, mixer: SuperMix, view: RandomCropFlip | None) -> None:
    network = resnet8(num_classes=10)
    network.load_state_dict(torch.load(checkpoint, weights_only=True)["model"])
    mix = mixer(FrozenTeacher(network), shapes(), seed=0, view=view)
    forwards, backwards = acceptance.set_passes(mix, mixer)
    assert int(forwards.sum()) + mix.label_forwards == mix.teacher_forwards
    assert int(backwards.sum()) == mix.teacher_backwards
    assert (mix.label_forwards > 0) == (view is not None or not mixer.early_stop)
    with torch.no_grad():
        logits = network(mix.images)
    for row, found in enumerate(acceptance.accepted(mix).tolist()):
        classes = sorted(set(mix.source_classes[row].tolist()))
        assert found == (sorted(logits[row].topk(len(classes)).indices.tolist()) == classes)


@pytest.mark.slow
def test_wall_time_has_every_repeat(run: Run) -> None:
    text, content = run("--parts", "walltime", "--repeats", "2", "--batch-sizes", "4", "--seeds", "5")
    (result,) = content["walltime"]
    assert result["batch_size"] == 4
    assert len(result["pairs"]) == 2
    for pair in result["pairs"]:
        assert pair["ratio"] == pytest.approx(pair["solver_seconds"] / pair["bare_seconds"])
        assert pair["forwards"] > pair["backwards"] > 0
    middle = sum(pair["ratio"] for pair in result["pairs"]) / 2
    assert f"| {middle:.3f} (" in text
    assert "## Acceptance" not in text


def test_batches_are_no_larger_than_the_images() -> None:
    options = arguments.parse(
        ["--data", "shapes", "--images", "20", "--batch-sizes", "16", "400", "8", "30", "8"], "program"
    )
    assert options.batch_sizes == [16, 20, 8]


def test_files_say_where_the_numbers_come_from(run: Run, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, content = run("--parts", "acceptance", "--rows", "default-10", "--seeds", "7")
    origin = content["provenance"]
    assert origin["command"].startswith("python -m supermix_pl.experiments.bench.solver --network resnet8 ")
    assert origin["seeds"] == [7]
    assert origin["versions"]["torch"] == torch.__version__
    assert origin["machine"]["threads"] == 1
    assert origin["command"] in text
    assert "--network" in content["remark"]
    assert "--k" not in content["remark"]
    for secret in (str(checkpoint.parent), str(Path.home()), str(Path.cwd()), platform.node()):
        assert secret not in text
        assert secret not in json.dumps(content)
    printed = capsys.readouterr()
    assert "Acceptance and passes" in printed.out
    assert "1/1" in printed.err


def test_nothing_attempted_gives_no_number(run: Run, checkpoint: Path) -> None:
    weights = torch.load(checkpoint, weights_only=True)["model"]
    weights["fc.bias"][3] += 1e4
    torch.save({"model": weights}, checkpoint.with_name("one_class.pth"))
    options = ["--parts", "acceptance", "--rows", "default-50", "--seeds", "0"]
    text, content = run(*options, "--checkpoint", str(checkpoint.with_name("one_class.pth")))
    assert content["acceptance"][0]["trials"][0]["attempted"] == 0
    assert content["acceptance"][0]["trials"][0]["solved_share"] is None
    assert "| default-50 | - | - |" in text
    assert "solved >= 0.76: not measured" in text


@pytest.mark.slow
def test_all_parts(run: Run) -> None:
    text, content = run("--repeats", "1", "--rows", "all", "--seeds", "0", "--batch-sizes", str(IMAGES))
    assert [result["row"] for result in content["acceptance"]] == list(acceptance.ROWS)
    assert 1.0 <= content["memory"][0]["ratio"] < 1.5
    assert text.count("\n## ") == 3


@pytest.mark.parametrize(
    ("command_line", "message"),
    [
        (["--data", "shapes", "--checkpoint", "none.pth"], "found no such file; pass --checkpoint"),
        (["--data", "nowhere", "--network", "resnet8"], "expected Parquet shards in nowhere, found none; pass --data"),
        (["--rows", "default", "fast"], "their first words or all, got 'fast'"),
        (["--network", "resnet9"], "or module:function, got 'resnet9'"),
        (["--device", "gpu"], "expected --device cpu or cuda, got 'gpu'"),
        (["--images", "1"], "expected --images >= 2, got 1"),
        (["--k", "0"], "expected --k >= 1, got 0"),
        (["--images", "21", "--batch-sizes", "10"], "got a last one of 1"),
        (["--batch-sizes", "8", "1"], "expected --batch-sizes >= k = 2, got 1"),
        (["--seeds", "-1"], "expected --seeds >= 0, got -1"),
        (["--repeats", "0"], "expected --repeats >= 1, got 0"),
        (["--std", "1", "0", "1"], "expected every --std > 0"),
        (["--size", "0"], "expected --size >= 1, got 0"),
        (["--parts", "speed"], "invalid choice: 'speed'"),
        (["--nonsense"], "unrecognized arguments"),
    ],
)
def test_bad_arguments(command_line: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        solver.main(command_line)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command_line", "message"),
    [
        (["--network", "wrn_16_1"], "those of another one"),
        (["--network", "os:path"], "expected a function of no arguments at 'os:path', got module"),
        (["--network", "no_such_module:build"], "No module named 'no_such_module'"),
        (["--network", "builtins:dict"], "expected an nn.Module from builtins:dict, got dict"),
        (["--size", "8"], "expected size to be an integer >= 16, got 8"),
    ],
)
def test_bad_subjects(command_line: list[str], message: str, run: Run) -> None:
    with pytest.raises(SystemExit) as stop:
        run(*command_line)
    assert message in str(stop.value.code)


def test_more_images_than_there_are(shared: Path) -> None:
    data = ["--data", str(shared / "data" / "cifar100"), "--network", "resnet8", "--images", "10001"]
    with pytest.raises(SystemExit) as stop:
        solver.main(data)
    assert "expected 10001 test images, got 10000; lower --images" in str(stop.value.code)


def test_every_network_that_takes_a_number_of_classes_has_a_name() -> None:
    known = arguments.networks_by_name()
    assert {"resnet8", "wrn_40_2", "MobileNetV2", "ShuffleV1", "ShuffleV2", "ResNet50"} <= set(known)
    assert not {"Classifier", "CifarResNet", "TimmNetwork"} & set(known)
