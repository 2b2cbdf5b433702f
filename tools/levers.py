"""Try a change to the recipe of Faster R-CNN on a fold of the official training images.

    python tools/levers.py FULLIJCNN2013 LEVER FOLD TARGET.json

Half the length of the recipe, trained on two thirds of images 0 to 599 and scored on the rest; no
test image is read. LEVER is base, mirror-scale, mandatory or hard. Each run is scored twice: with
its last weights, and with the mean of those of the last three tenths of its steps.
"""

import json
import sys
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from hw3 import profiles, records, runs, training
from hw3.detection import ap, experiment
from hw3.detection.augment import Augmentation
from hw3.detection.crops import CropSamples, collate
from hw3.detection.dataset import read_gtsdb

CROP, CROPS, EPOCHS, FOLDS = 224, 2000, 5, 3
SAME_PLACES = ((43, 593), (485, 486))
"""Of the official training images; see book/same_places.json."""
LEVERS = ("base", "mirror-scale", "mandatory", "hard")


def folds() -> np.ndarray:
    """The fold of each official training image: 200 each, photographs of one place in one."""
    fold = np.empty(600, int)
    fold[np.random.default_rng(0).permutation(600)] = np.arange(600) % FOLDS
    for first, second in SAME_PLACES:
        if fold[first] != fold[second]:
            fixed = np.isin(np.arange(600), SAME_PLACES)
            other = np.flatnonzero((fold == fold[first]) & ~fixed)[0]
            fold[other], fold[second] = fold[second], fold[first]
    return fold


class LeverSamples(CropSamples):
    """Crops as the package's, with a lever."""

    lever = "base"

    def __getitem__(self, key):
        """One crop of 224 pixels."""
        drawn, side = np.random.default_rng((self.seed, *key, 2)), CROP
        if self.lever == "mirror-scale":
            side = round(CROP * np.exp(drawn.uniform(np.log(0.7), np.log(1.45))))
        self.crop_size = side
        sample = super().__getitem__(key)
        if side != CROP:
            how = cv2.INTER_AREA if side > CROP else cv2.INTER_LINEAR
            pixels = sample["image"].permute(1, 2, 0).numpy()
            image = cv2.resize(pixels, (CROP, CROP), interpolation=how)
            sample["image"] = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
            sample["boxes"] = sample["boxes"] * (CROP / side)
        if self.lever == "mirror-scale" and drawn.random() < 0.5:
            sample["image"] = sample["image"].flip(2)
            x1, y1, x2, y2 = sample["boxes"].T
            sample["boxes"] = torch.stack([CROP - x2, y1, CROP - x1, y2], dim=1)
        return sample


def update_statistics(model: nn.Module, samples: LeverSamples, batches: int = 100) -> None:
    """BatchNorm's statistics of averaged weights: those of so many batches of the last epoch."""
    norms = [own for own in model.modules() if isinstance(own, nn.BatchNorm2d)]
    momenta = [own.momentum for own in norms]
    for own in norms:
        own.reset_running_stats()
        own.momentum = None
    model.train()
    keys = training.epoch_batches(len(samples), 8, 0, EPOCHS)[:batches]
    with torch.no_grad():
        for batch in keys:
            experiment.train_step(model, collate([samples[key] for key in batch]))
    for own, momentum in zip(norms, momenta, strict=True):
        own.momentum = momentum
    model.eval()


def main() -> None:
    """Train, score twice, write the detections."""
    source, lever, fold, target = sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])
    assert lever in LEVERS
    torch.set_num_threads(1)
    settings = replace(
        profiles.FULL.faster_rcnn,
        weights=f"{profiles.DETECTION}/start_faster_rcnn.safetensors",
        backbone="vgg16-fpn",
        anchor_sizes=(16, 24, 32, 48, 64, 96, 128, 192),
        image_size=None,
        width=0.25,
        fpn_channels=64,
        rois_per_image=128,
        proposals=100,
        frozen_blocks=0,
        split="official",
        crop_size=CROP,
        crops=CROPS,
        sign_share=0.3,
        epochs=EPOCHS,
        learning_rate=1e-3,
        schedule="one_cycle",
    )
    dataset, fold_of = read_gtsdb(Path(source)), folds()
    train, test = (np.flatnonzero(own).tolist() for own in (fold_of != fold, fold_of == fold))
    accelerator = training.make_accelerator("no")
    torch.manual_seed(settings.seed)
    model = experiment.build(settings, settings.weights)
    samples = LeverSamples(
        dataset,
        train,
        crop_size=CROP,
        crops=CROPS,
        sign_share=settings.sign_share,
        augmentation=Augmentation(settings.seed),
        seed=settings.seed,
        hard_share=0.3 if lever == "hard" else 0.0,
    )
    samples.lever = lever
    if lever == "mandatory":  # 31 % of the signs that crops are laid around instead of 13 %
        everything = samples.pools[0]
        mandatory = [(i, j) for i, j in everything if dataset.labels[i][j] == 2]
        samples.pools = [everything] * 4 + [mandatory]
    trained = [own for own in model.parameters() if own.requires_grad]
    optimizer, scheduler = runs.optimiser(settings, trained, len(samples))
    averaged, steps = AveragedModel(model), EPOCHS * (CROPS // settings.batch_size)
    done = 0

    def step(own: nn.Module, batch: dict) -> dict:
        nonlocal done
        done += 1
        if done > 0.7 * steps:
            averaged.update_parameters(accelerator.unwrap_model(own))
        return experiment.train_step(own, batch)

    def mine(own: nn.Module) -> dict:
        if lever == "hard" and not samples.false_alarms and done >= steps // 2 - CROPS // 16:
            found = experiment.false_alarms(
                experiment.evidence(settings, own, dataset, train, accelerator)
            )
            number = {image_id: index for index, image_id in enumerate(dataset.image_ids)}
            samples.false_alarms = [(number[i], np.array(box)) for i, box in found]
        return {"false_alarms": len(samples.false_alarms)}

    clock = perf_counter()
    history = training.fit(
        model,
        step,
        samples,
        optimizer,
        epochs=EPOCHS,
        batch_size=settings.batch_size,
        seed=settings.seed,
        accelerator=accelerator,
        scheduler=scheduler,
        validate=mine,
        collate=collate,
        workers=0,
        max_gradient_norm=settings.max_gradient_norm,
    )
    seconds = perf_counter() - clock
    mean = deepcopy(averaged.module)
    update_statistics(mean, samples)
    made = {"lever": lever, "fold": fold, "seconds": round(seconds), "history": history}
    made |= {"settings": asdict(settings), "train": train, "test": test} | records.provenance()
    made["settings"]["weights"] = Path(settings.weights).name
    made["fingerprint"] = dataset.fingerprint
    for name, own in (("last", model), ("averaged", mean)):
        found = experiment.evidence(settings, own.eval(), dataset, test, accelerator)
        made["truths"], made[name] = found["truths"], found["detections"]
        scores = ap.scores(ap.match(found["truths"], found["detections"]), resamples=100)
        made[f"{name}_ap50"] = scores["ap50"], scores["ap50_by_class"], scores["ap"]
        print(lever, fold, name, made[f"{name}_ap50"], flush=True)
    records.write_atomically(target, json.dumps(made).encode())


if __name__ == "__main__":
    main()
