"""A training loop of your own, without Lightning's trainer: `python examples/plain_pytorch.py`.

Engine, mixer and labels are plain functions of tensors. `checkpoint.pt` is written after each epoch; started again with
more epochs, the program goes on as if it had never stopped. It prints what the callback would log. Images are drawn
here: a bright quadrant on noise, the class is the quadrant.
"""

import argparse
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from supermix_pl import FrozenTeacher, StreamEngine, SuperMix
from supermix_pl.losses import distillation_loss
from supermix_pl.trainer.log import mixing_metrics
from supermix_pl.trainer.stopwatch import Stopwatch

NUM_CLASSES, SIDE = 4, 16


def quadrants(count: int, seed: int) -> TensorDataset:
    """Draw images (count, 1, 16, 16) in [0, 1] and their labels."""
    generator = torch.Generator().manual_seed(seed)
    images = 0.6 * torch.rand(count, 1, 2, SIDE // 2, 2, SIDE // 2, generator=generator)
    labels = torch.randint(NUM_CLASSES, (count,), generator=generator)
    images[torch.arange(count), 0, labels // 2, :, labels % 2] += 0.4
    return TensorDataset(images.reshape(count, 1, SIDE, SIDE), labels)


def network(width: int) -> nn.Sequential:
    """Build a classifier of a width."""
    layers = [nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveMaxPool2d(4)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * width, NUM_CLASSES))


def batches(epoch: int) -> DataLoader:
    """Shuffle the training images, in an order that belongs to the epoch."""
    return DataLoader(quadrants(256, 0), 32, shuffle=True, generator=torch.Generator().manual_seed(epoch))


def trained_teacher() -> FrozenTeacher:
    """Fit a teacher; yours comes from a file."""
    module = network(width=16)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
    for epoch in range(4):
        for images, labels in batches(epoch):
            optimizer.zero_grad()
            cross_entropy(module(images), labels).backward()
            optimizer.step()
    return FrozenTeacher(module)


def main() -> None:
    """Distil a teacher on natural images and on mixes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--checkpoint", type=Path, default=Path("checkpoint.pt"))
    options = parser.parse_args()
    torch.manual_seed(0)
    teacher, student = trained_teacher(), network(width=4)
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-2)
    mixer, engine = SuperMix.fast(), StreamEngine()
    stopwatch = Stopwatch(torch.device("cpu"))
    first, values = 0, {}
    if options.checkpoint.is_file():
        held = torch.load(options.checkpoint, weights_only=True)
        first = held["epoch"]
        student.load_state_dict(held["student"])
        optimizer.load_state_dict(held["optimizer"])
        engine.load_state_dict(held["engine"])
        engine.load_tensors(held["store"])
    for epoch in range(first, options.epochs):
        for step, (images, labels) in enumerate(batches(epoch)):
            with torch.no_grad():
                natural_logits = teacher(images)
            stopwatch.start()
            began = time.perf_counter()
            mix = engine.mix(
                mixer,
                teacher,
                images,
                labels,
                seed=(0, epoch, step),
                view=engine.default_transform,
                natural_logits=natural_logits,
            )
            values = mixing_metrics(mix, engine, stopwatch, 1000 * (time.perf_counter() - began))
            stopwatch.mixed()
            stopwatch.trained()  # the training step begins
            logits = student(torch.cat([images, mix.images]))
            assert mix.teacher_logits is not None  # there is a teacher
            loss = 0.1 * cross_entropy(logits[: len(images)], labels)
            loss = loss + 0.9 * distillation_loss(logits, torch.cat([natural_logits, mix.teacher_logits]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            stopwatch.trained()  # and ends
        parts = {"student": student.state_dict(), "optimizer": optimizer.state_dict()}
        parts |= {"engine": engine.state_dict(), "store": engine.tensors()}
        torch.save({"epoch": epoch + 1, **parts}, options.checkpoint)
    test = quadrants(256, 1)
    accuracy = (student.eval()(test.tensors[0]).argmax(dim=1) == test.tensors[1]).float().mean()
    print({name: round(float(value), 3) for name, value in {"accuracy": accuracy, **values}.items()})


if __name__ == "__main__":
    main()
