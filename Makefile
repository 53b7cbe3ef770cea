# make demo   set-up, then the main job on the embedded data (6 minutes on 2 cores)
# make smoke  two steps of every cell of every table on the embedded data (206 cells; 15 minutes of CPU time)
# make test   set-up, lint, types, then the tests (at most 10 minutes in all)
# make release  all tests, then the wheel and the source in dist/, checked for an upload
.PHONY: demo smoke lint quick test test-slow release clean
PYTHON ?= python3.11
BIN := .venv/bin
export PYTHONDONTWRITEBYTECODE := # where it is set, each of the programs below compiles all that it imports

.venv/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -e ".[dev]"
	touch $@

demo: .venv/installed
	$(BIN)/python -m supermix_pl.experiments.demo

TRAIN := $(BIN)/python -m supermix_pl.experiments.train -m scale=smoke
ROWS := plain,kd,crd,ce_mixup,ce_cutmix,ce_supermix,kd_mixup,kd_cutmix,kd_supermix
EXTERNAL := method=ce_imgnet32,kd_imgnet32 mixes.folder=experiments/results/demo
TABLE2 := wrn_40_2-wrn_16_2,wrn_40_2-wrn_40_1,resnet56-resnet20,resnet110-resnet20,resnet110-resnet32,resnet32x4-resnet8x4,vgg13-vgg8
TABLE3 := vgg13-MobileNetV2,ResNet50-MobileNetV2,ResNet50-vgg8,resnet32x4-ShuffleV1,resnet32x4-ShuffleV2,wrn_40_2-ShuffleV1
CIFAR := wrn_40_2-wrn_40_2,wrn_28_10-wrn_28_10,shake_shake_26_2x96d-shake_shake_26_2x96d
TABLE1 := $(CIFAR),resnet50-resnet50,resnet200-resnet200
MIXED := ce_mixup,ce_cutmix,ce_supermix,ce_supermix_randaugment

smoke: .venv/installed
	rm -rf smoke
	$(TRAIN) hydra.sweep.dir=smoke/table1 experiment=table1 pair=$(TABLE1) \
	  method=plain,autoaugment,fast_autoaugment,randaugment,$(MIXED)
	$(TRAIN) hydra.sweep.dir=smoke/table2/own experiment=table2 pair=$(TABLE2) method=$(ROWS)
	$(TRAIN) hydra.sweep.dir=smoke/table2/external experiment=table2 pair=$(TABLE2) $(EXTERNAL)
	$(TRAIN) hydra.sweep.dir=smoke/table3/own experiment=table3 pair=$(TABLE3) method=$(ROWS)
	$(TRAIN) hydra.sweep.dir=smoke/table3/external experiment=table3 pair=$(TABLE3) $(EXTERNAL)
	for teacher in imagenet_vgg16 imagenet_resnet34 vgg13 wrn_40_2; do $(BIN)/python -m supermix_pl.experiments.bench.table4 \
	  teacher=untrained network@teacher.network=$$teacher mixer.classes=labels bench.sets=4 bench.batch_size=4 bench.caps=[2] \
	  bench.folder=smoke/table4 || exit 1; done
	$(TRAIN) hydra.sweep.dir=smoke/table5/k2 experiment=table5 \
	  method=plain,kd,crd,ce_mixup,kd_mixup,ce_cutmix,kd_cutmix,ce_supermix,kd_supermix
	$(TRAIN) hydra.sweep.dir=smoke/table5/k3 experiment=table5 method=ce_supermix,kd_supermix mixer.k=3
	for table in 1 2 3 5; do $(BIN)/python -m supermix_pl.experiments.reporting table$$table smoke/table$$table || exit 1; done

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

quick: .venv/installed
	$(BIN)/python -m pytest -m "not slow" -n 2

test: .venv/installed
	$(MAKE) --jobs=2 lint quick # the type checker keeps one core busy for a minute

test-slow: lint
	$(BIN)/pyright tests
	$(BIN)/python -m pytest

release: test-slow
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	$(BIN)/python -m twine check --strict dist/*

clean:
	rm -rf .venv build dist demo smoke *.egg-info
