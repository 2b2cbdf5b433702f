"""Find photographs of one place in the published GTSDB: python tools/same_places.py FULLIJCNN2013.

Each photograph is compared with those that look most like it as a thumbnail: corners of both that
look alike (ORB, Rublee et al. 2011) are counted if one shift, turn and scale brings them together.
Writes book/same_places.json, the pairs with MATCHES of them or more; the pictures stay where they
are.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from count_signs import given
from hw3 import records

TARGET = Path(__file__).resolve().parent.parent / "book/same_places.json"
MATCHES = 40
NEIGHBOURS = 15
"""Photographs that each is compared with."""
THUMBNAIL, HALF = (48, 28), (680, 400)
CORNERS, HAMMING, PIXELS = 1500, 48, 4.0
"""Corners a photograph, their largest distance in bits, and how far apart they may come to lie."""


def main() -> None:
    """Compare, and write the pairs, those with the most matches first."""
    dataset = given(__doc__)
    images = (cv2.cvtColor(dataset.image(i), cv2.COLOR_RGB2GRAY) for i in range(len(dataset)))
    pairs = find_pairs(images)
    ids = dataset.image_ids
    made = {"matches_at_least": MATCHES, "neighbours": NEIGHBOURS} | records.provenance()
    made["fingerprint"] = dataset.fingerprint
    made["pairs"] = [{"images": [ids[i], ids[j]], "matches": found} for i, j, found in pairs]
    TARGET.write_text(json.dumps(made, indent=1) + "\n")


def find_pairs(images: Iterable[np.ndarray]) -> list[tuple[int, int, int]]:
    """Places of two images (height, width) uint8, and their matches; most first."""
    detector, thumbnails, corners = cv2.ORB_create(CORNERS), [], []
    for image in images:
        small = cv2.resize(image, THUMBNAIL, interpolation=cv2.INTER_AREA).astype(np.float32)
        small -= cv2.GaussianBlur(small, (0, 0), 6)  # shapes, not how bright the sky is
        thumbnails.append(small.ravel() / max(float(np.linalg.norm(small)), 1e-6))
        corners.append(detector.detectAndCompute(cv2.resize(image, HALF), None))
    alike = np.stack(thumbnails) @ np.stack(thumbnails).T
    np.fill_diagonal(alike, -1)
    nearest = np.argsort(-alike, axis=1)[:, :NEIGHBOURS]
    candidates = {tuple(sorted((i, int(j)))) for i, own in enumerate(nearest) for j in own}
    found = [(i, j, matches(corners[i], corners[j])) for i, j in sorted(candidates) if i != j]
    return sorted((own for own in found if own[2] >= MATCHES), key=lambda own: -own[2])


def matches(one: tuple, other: tuple) -> int:
    """How many corners of two images one similarity brings together."""
    if one[1] is None or other[1] is None:
        return 0
    near = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(one[1], other[1])
    near = [own for own in near if own.distance < HAMMING]
    if len(near) < 3:
        return 0
    here = np.float32([one[0][own.queryIdx].pt for own in near])
    there = np.float32([other[0][own.trainIdx].pt for own in near])
    cv2.setRNGSeed(0)
    inliers = cv2.estimateAffinePartial2D(here, there, ransacReprojThreshold=PIXELS)[1]
    return 0 if inliers is None else int(inliers.sum())


if __name__ == "__main__":
    main()
