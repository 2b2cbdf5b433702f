"""The two detectors, put together from torchvision's parts: Faster R-CNN with FPN, and SSD300.

Label 0 is the background, signs are 1 to `labels`. In training mode a model takes images and
targets and returns its losses (`total_loss`), in evaluation mode detections (`predict`).
"""

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.utils._pytree import tree_map
from torchvision.models import ResNet50_Weights, WeightsEnum, resnet50
from torchvision.models.detection import faster_rcnn, ssd
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FrozenBatchNorm2d

from hw3.backbones import (
    VGG16_MEAN,
    VGG16_STD,
    fetch_state,
    he_initialise,
    load_state,
    read_state,
    vgg16_features,
)
from hw3.errors import InputError
from hw3.winograd import use_winograd

Detector = TypeVar("Detector", bound=nn.Module)
Detections = dict[str, np.ndarray]
"""boxes_xyxy (n, 4) float32 in pixels, labels (n,) int64, scores (n,) float32."""
OUTPUTS = ("roi_heads.box_predictor", "rpn.head.cls", "rpn.head.bbox", "head.classification")
"""Layers that start anew where a weights file, made for other labels or anchors, does not fit."""


def build_faster_rcnn(
    *,
    backbone: Literal["resnet50-fpn", "vgg16-fpn"],
    weights: str,
    anchor_sizes: Sequence[Sequence[int]],
    aspect_ratios: Sequence[float] = (1.0,),
    labels: int = 4,
    image_size: tuple[int, int] | None = None,
    width: float = 1.0,
    fpn_channels: int = 256,
    fpn_norm: bool = False,
    frozen_blocks: int = 2,
    rois_per_image: int = 512,
    proposals: int = 2000,
    score_threshold: float = 0.05,
) -> faster_rcnn.FasterRCNN:
    """Faster R-CNN (Ren et al. 2015) on a feature pyramid (Lin et al. 2017).

    Args:
        backbone: ResNet50's stages (strides 4 to 32) make the pyramid, or VGG16's conv3_3, conv4_3
            and conv5_3 (strides 4 to 16); one more level is pooled from the coarsest.
        weights: "coco" (torchvision's whole detector), "imagenet" (its backbone), "random", or
            the path of a file with either; see `OUTPUTS`. ResNet50's BatchNorm is frozen, as in
            torchvision, unless it starts at random or with a file of a detector that trained it.
        anchor_sizes: sides in pixels of the resized image, one tuple a level.
        aspect_ratios: heights over widths of the anchors.
        labels: number of classes, not counting the background.
        image_size: (shortest side, bound of the longest) to resize to; None: native pixels.
        width: share of the backbone's channels and of the box head's 1024. Below 1, VGG16 gets
            BatchNorm, without which it hardly trains from random weights.
        fpn_channels: channels of each level of the pyramid.
        fpn_norm: BatchNorm after each of the pyramid's convolutions, as in torchvision's second
            version (Li et al. 2021). Without it a ResNet50 that starts at random hands on features
            many times as large, and at a high learning rate most of the box head falls silent.
        frozen_blocks: how many of the backbone's five blocks, from the first, are not trained.
        rois_per_image: proposals drawn from an image for the box head's loss.
        proposals: best proposals of a training image, of which those are drawn.
        score_threshold: detections below it are not returned.

    Raises:
        InputError: if settings contradict each other, or the weights cannot be had or do not fit.

    Example:
        A sixteenth of the box head's 1024 channels, four labels and the background:

        >>> sizes = [(16, 24), (32, 48), (64, 96), (128, 192)]
        >>> model = build_faster_rcnn(
        ...     backbone="vgg16-fpn", weights="random", anchor_sizes=sizes, width=1 / 16
        ... )
        >>> model.roi_heads.box_predictor.cls_score
        Linear(in_features=64, out_features=5, bias=True)
    """
    levels = 5 if backbone == "resnet50-fpn" else 4
    if len(anchor_sizes) != levels:
        raise InputError(f"anchor_sizes has {len(anchor_sizes)} levels, {backbone} has {levels}")
    if weights == "coco" and (backbone, fpn_channels, fpn_norm) != ("resnet50-fpn", 256, False):
        raise InputError("weights coco are for resnet50-fpn with 256 fpn_channels, no fpn_norm")
    coco = faster_rcnn.FasterRCNN_ResNet50_FPN_Weights.COCO_V1
    whole = _detector_state(weights, coco, width)
    start = "random" if whole else weights
    fpn = {"out_channels": fpn_channels, "norm_layer": nn.BatchNorm2d if fpn_norm else None}
    if backbone == "resnet50-fpn":
        pyramid = _resnet50_fpn(start, width, frozen_blocks, _norm_layer(weights, whole), fpn)
        mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    else:
        pyramid = _vgg16_fpn(start, width, frozen_blocks, fpn)
        mean, std = VGG16_MEAN, VGG16_STD
    head_channels = round(width * 1024)
    model = faster_rcnn.FasterRCNN(
        pyramid,
        rpn_anchor_generator=_FullPrecisionAnchors(anchor_sizes, (aspect_ratios,) * levels),
        box_head=faster_rcnn.TwoMLPHead(fpn_channels * 7**2, head_channels),
        box_predictor=faster_rcnn.FastRCNNPredictor(head_channels, labels + 1),
        rpn_post_nms_top_n_train=proposals,
        box_batch_size_per_image=rois_per_image,
        box_score_thresh=score_threshold,
    )
    transform = GeneralizedRCNNTransform if image_size else _NativeSize
    model.transform = transform(*(image_size or (0, 0)), mean, std)
    _full_precision_outputs(model.rpn.head, model.roi_heads.box_predictor)
    return _finished(model, whole, weights)


def build_ssd300(
    *,
    weights: str,
    labels: int = 4,
    width: float = 1.0,
    frozen_convolutions: int = 4,
    mining: Literal["image", "batch"] = "image",
    score_threshold: float = 0.01,
) -> "SSD300":
    """SSD300 on VGG16 (Liu et al. 2016), with the default boxes of torchvision's ssd300_vgg16.

    It resizes any image to 300x300; a 300-pixel tile (`hw3.detection.tiles`) stays as it is.

    Args:
        weights: as for `build_faster_rcnn`, and so are `labels` and `score_threshold`.
        width: share of the channels; below 1 with BatchNorm, as in `build_faster_rcnn`.
        frozen_convolutions: how many convolutions, from the first, are not trained.
        mining: where the loss looks for the hardest background, see `SSD300.compute_loss`.

    Raises:
        InputError: if the weights cannot be had or do not fit.

    Example:
        >>> model = build_ssd300(weights="random", width=1 / 16)
        >>> model.transform.min_size, model.head.classification_head.num_columns
        ((300,), 5)
    """
    whole = _detector_state(weights, ssd.SSD300_VGG16_Weights.COCO_V1, width)
    features = vgg16_features("random" if whole else weights)
    extractor = ssd.SSDFeatureExtractorVGG(features, highres=False)
    for place, block in enumerate([extractor.features, *extractor.extra]):
        _narrow(block, width, norm=place < 2)  # the later maps shrink to one pixel
    extractor.scale_weight = nn.Parameter(extractor.scale_weight.data[: round(width * 512)])
    convolutions = [layer for layer in extractor.modules() if isinstance(layer, nn.Conv2d)]
    nn.ModuleList(convolutions[:frozen_convolutions]).requires_grad_(False)
    model = SSD300(
        extractor,
        DefaultBoxGenerator(
            [[2], [2, 3], [2, 3], [2, 3], [2], [2]],
            scales=[0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05],
            steps=[8, 16, 32, 64, 100, 300],
        ),
        size=(300, 300),
        num_classes=labels + 1,
        image_mean=VGG16_MEAN,
        image_std=VGG16_STD,
        score_thresh=score_threshold,
    )
    model.mining = mining
    _full_precision_outputs(model.head)
    return _finished(model, whole, weights)


class SSD300(ssd.SSD):
    """torchvision's SSD, whose overlapping tiles can share their first layers.

    Its loss can learn from images without a sign, too.

    Example:
        >>> model = build_ssd300(weights="random", width=1 / 16).eval()
        >>> image = torch.rand(3, 300, 300)
        >>> with torch.no_grad():
        ...     [whole], [steps] = model([image]), model.finish(model.stem(image[None]))
        >>> torch.equal(whole["boxes"], steps["boxes"])
        True
    """

    STRIDE = 4
    """Pixels a feature of the stem."""
    mining: Literal["image", "batch"] = "image"
    """Where the loss looks for the hardest background."""

    def compute_loss(
        self,
        targets: list[dict[str, Tensor]],
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
        matched_idxs: list[Tensor],
    ) -> dict[str, Tensor]:
        """torchvision's loss, with the hardest background of each image, or of the whole batch.

        Three background boxes count for each box on a sign. Where they come from the same image,
        as in torchvision, an image without a sign adds nothing to the loss. Here the batch can
        be handed on as one image with all the boxes, so that its false alarms count wherever
        they are.

        Args:
            targets: one an image: boxes (g, 4) xyxy, labels (g,).
            head_outputs: bbox_regression (n, d, 4) and cls_logits (n, d, labels + 1).
            anchors: one an image: default boxes (d, 4) xyxy.
            matched_idxs: one an image: (d,), places in that image's targets, -1 for background.

        Example:
            One sign in the first of two images with four boxes each, and three false alarms,
            with a loss of 9 each, in the second:

            >>> logits = torch.zeros(2, 4, 5)
            >>> logits[1, :3, 1] = 9.0
            >>> heads = {"bbox_regression": torch.zeros(2, 4, 4), "cls_logits": logits}
            >>> boxes = torch.tensor([[0.0, 0.0, 9.0, 9.0]]).repeat(4, 1)
            >>> sign = {"boxes": boxes[:1], "labels": torch.tensor([1])}
            >>> none = {"boxes": boxes[:0], "labels": torch.tensor([], dtype=torch.int64)}
            >>> matched = [torch.tensor([0, -1, -1, -1]), torch.full((4,), -1)]
            >>> model = build_ssd300(weights="random", width=1 / 16)
            >>> for model.mining in ("image", "batch"):
            ...     losses = model.compute_loss([sign, none], heads, [boxes, boxes], matched)
            ...     print(round(float(losses["classification"]), 1))
            6.4
            28.6
        """
        if self.mining == "batch":
            starts = accumulate((len(target["boxes"]) for target in targets), initial=0)
            places = [
                torch.where(own < 0, own, own + start)
                for own, start in zip(matched_idxs, starts, strict=False)
            ]
            joined = {key: torch.cat([own[key] for own in targets]) for key in ("boxes", "labels")}
            head_outputs = {key: own.flatten(0, 1)[None] for key, own in head_outputs.items()}
            targets, anchors, matched_idxs = [joined], [torch.cat(anchors)], [torch.cat(places)]
        return super().compute_loss(targets, head_outputs, anchors, matched_idxs)

    def stem(self, images: Tensor) -> Tensor:
        """VGG16's first three blocks, of images of any size, which are all local.

        Args:
            images: float (n, 3, height, width) in [0, 1].

        Returns:
            (n, channels, height / STRIDE, width / STRIDE), rounded down.

        Example:
            >>> model = build_ssd300(weights="random", width=1 / 16)
            >>> model.stem(torch.zeros(1, 3, 100, 48)).shape
            torch.Size([1, 16, 25, 12])
        """
        normalised = torch.stack([self.transform.normalize(image) for image in images])
        return self._blocks()[0](normalised.to(memory_format=torch.channels_last))

    def finish(self, features: Tensor) -> list[dict[str, Tensor]]:
        """Detections in tiles, from their part of the stem's features.

        Args:
            features: (n, channels, 75, 75).

        Returns:
            As the whole model's, in the tiles' pixels.

        Example:
            >>> model = build_ssd300(weights="random", width=1 / 16).eval()
            >>> with torch.no_grad():
            ...     found = model.finish(torch.zeros(2, 16, 75, 75))
            >>> [sorted(own) for own in found]
            [['boxes', 'labels', 'scores'], ['boxes', 'labels', 'scores']]
        """
        x = self._blocks()[1](features)
        maps = [self.backbone.scale_weight.view(1, -1, 1, 1) * normalize(x)]
        for block in self.backbone.extra:
            x = block(x)
            maps.append(x)
        sizes = [(300, 300)] * len(features)
        tiles = ImageList(features.new_empty(len(features), 3, 300, 300), sizes)
        return self.postprocess_detections(
            self.head(maps), self.anchor_generator(tiles, maps), sizes
        )

    def _blocks(self) -> tuple[nn.Sequential, nn.Sequential]:
        """The backbone's layers before its third pooling, and those from there to conv4_3."""
        layers = self.backbone.features
        third = [i for i, own in enumerate(layers) if isinstance(own, nn.MaxPool2d)][2]
        return layers[:third], layers[third:]


def total_loss(model: nn.Module, images: list[Tensor], targets: list[dict[str, Tensor]]) -> Tensor:
    """torchvision's own loss of a model in training mode, the sum of its parts.

    Args:
        model: built here.
        images: float (3, height, width) in [0, 1].
        targets: one an image: boxes float (g, 4) xyxy, labels int64 (g,) from 1; g may be 0.

    Example:
        >>> model = build_ssd300(weights="random", width=1 / 16).train()
        >>> target = {"boxes": torch.tensor([[5.0, 5.0, 45.0, 45.0]]), "labels": torch.tensor([4])}
        >>> loss = total_loss(model, [torch.zeros(3, 300, 300)], [target])
        >>> loss.shape, loss.requires_grad
        (torch.Size([]), True)
    """
    check_targets(targets)
    return sum(model(images, targets).values())


def check_targets(targets: list[dict[str, Tensor]]) -> None:
    """Refuse, with all faults in one InputError, boxes without area and labels of the background.

    The loss of a box without area is not finite, or torchvision stops at it.

    Example:
        >>> flat = {"boxes": torch.tensor([[5.0, 5.0, 5.0, 9.0]]), "labels": torch.tensor([4])}
        >>> check_targets([flat])
        Traceback (most recent call last):
            ...
        hw3.errors.InputError: target 0: box [5.0, 5.0, 5.0, 9.0] has no area. Drop such boxes ...
    """
    faults = []
    for place, target in enumerate(targets):
        boxes = target["boxes"]
        proper = boxes.isfinite().all(1) & (boxes[:, 2:] > boxes[:, :2]).all(1)
        faults += [f"target {place}: box {box} has no area" for box in boxes[~proper].tolist()]
        if (target["labels"] < 1).any():
            faults.append(f"target {place}: a label below 1, but 0 is the background")
    if faults:
        raise InputError(f"{'; '.join(faults)}. Drop such boxes after augmentation")


def predict(model: nn.Module, image: Tensor) -> Detections:
    """Detections in a whole image, float (3, height, width) in [0, 1]. Sets evaluation mode.

    Example:
        >>> model = build_ssd300(weights="random", width=1 / 16)
        >>> found = predict(model, torch.zeros(3, 300, 300))
        >>> sorted(found), found["boxes_xyxy"].shape[1:]
        (['boxes_xyxy', 'labels', 'scores'], (4,))
    """
    return predict_batch(model, [image])[0]


@torch.no_grad()
def predict_batch(model: nn.Module, images: Sequence[Tensor]) -> list[Detections]:
    """As `predict`, for several images at once.

    Example:
        >>> model = build_ssd300(weights="random", width=1 / 16)
        >>> found = predict_batch(model, [torch.zeros(3, 300, 300), torch.zeros(3, 200, 400)])
        >>> [detections["boxes_xyxy"].shape[1:] for detections in found]
        [(4,), (4,)]
    """
    device = next(model.parameters()).device
    return to_numpy(model.eval()([image.to(device) for image in images]))


def to_numpy(found: list[dict[str, Tensor]]) -> list[Detections]:
    """What torchvision's detectors return, an image each, as arrays.

    Example:
        >>> nothing = {"boxes": torch.zeros(0, 4), "labels": torch.ones(0), "scores": torch.ones(0)}
        >>> [detections] = to_numpy([nothing])
        >>> detections["boxes_xyxy"].shape
        (0, 4)
    """
    names = {"boxes_xyxy": "boxes", "labels": "labels", "scores": "scores"}
    return [{name: one[key].cpu().numpy() for name, key in names.items()} for one in found]


def _full_precision_outputs(*heads: nn.Module) -> None:
    """Let heads return float32 under mixed precision.

    torchvision casts boxes to the type of the offsets that it adds to them, and bfloat16 has steps
    of four pixels at 1000.
    """

    def widen(_head: nn.Module, _inputs: object, outputs: Any) -> Any:
        return tree_map(lambda tensor: tensor.float(), outputs)

    for head in heads:
        head.register_forward_hook(widen)


class _FullPrecisionAnchors(AnchorGenerator):
    """Anchors in float32 under mixed precision, for which `_full_precision_outputs` has a reason.

    torchvision gives them the type of the feature maps.
    """

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        return super().forward(image_list, [features.float() for features in feature_maps])


class _NativeSize(GeneralizedRCNNTransform):
    """Normalises and makes batches, but leaves images as large as they are."""

    def resize(self, image: Tensor, target: dict | None = None) -> tuple[Tensor, dict | None]:
        return image, target


class _ScaledPyramid(BackboneWithFPN):
    """VGG16's features reach hundreds: scaled, a pyramid trains at an ordinary learning rate."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return self.fpn({level: 0.02 * features for level, features in self.body(x).items()})


def _vgg16_fpn(
    weights: str, width: float, frozen_blocks: int, fpn: dict[str, Any]
) -> BackboneWithFPN:
    features = vgg16_features(weights)
    _narrow(features, width, norm=True)
    features[: (0, 5, 10, 17, 24, 31)[frozen_blocks]].requires_grad_(False)
    levels = {"15": "0", "22": "1", "29": "2"}
    inputs = [round(width * outputs) for outputs in (256, 512, 512)]
    pyramid = _ScaledPyramid if width == 1.0 else BackboneWithFPN  # BatchNorm has scaled already
    return pyramid(features, levels, inputs, **fpn)


def _resnet50_fpn(
    weights: str,
    width: float,
    frozen_blocks: int,
    norm_layer: type[nn.Module],
    fpn: dict[str, Any],
) -> BackboneWithFPN:
    network = resnet50(norm_layer=norm_layer)
    if weights == "imagenet":
        load_state(network, fetch_state(ResNet50_Weights.IMAGENET1K_V1), weights)
    elif weights != "random":
        load_state(network, read_state(Path(weights)), weights)
    _narrow(network, width)
    nn.Sequential(*network.children())[: (0, 4, 5, 6, 7, 8)[frozen_blocks]].requires_grad_(False)
    levels = {"layer1": "0", "layer2": "1", "layer3": "2", "layer4": "3"}
    inputs = [round(width * outputs) for outputs in (256, 512, 1024, 2048)]
    return BackboneWithFPN(network, levels, inputs, **fpn)


def _norm_layer(weights: str, whole: dict[str, Tensor] | None) -> type[nn.Module]:
    """What follows ResNet50's convolutions; only a trained BatchNorm counts its batches."""
    body = [name for name in whole or () if name.startswith("backbone.body.")]
    counted = any(name.endswith("num_batches_tracked") for name in body)
    goes_on = weights == "random" or (counted and weights != "coco")
    return nn.BatchNorm2d if goes_on else FrozenBatchNorm2d


def _narrow(module: nn.Module, width: float, norm: bool = False) -> None:
    """Give layers `width` times the channels (RGB stays three), and convolutions BatchNorm."""

    def scaled(channels: int) -> int:
        return channels if channels == 3 else round(width * channels)

    for name, layer in module.named_children() if width != 1.0 else ():
        if isinstance(layer, nn.Conv2d):
            inputs, outputs = scaled(layer.in_channels), scaled(layer.out_channels)
            geometry = (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
            bias = layer.bias is not None and not norm
            new = nn.Conv2d(inputs, outputs, *geometry, bias=bias)
            he_initialise(new)
            setattr(module, name, nn.Sequential(new, nn.BatchNorm2d(outputs)) if norm else new)
        elif isinstance(layer, nn.BatchNorm2d | FrozenBatchNorm2d):
            setattr(module, name, type(layer)(scaled(layer.weight.numel())))
        else:
            _narrow(layer, width, norm)


def _detector_state(weights: str, coco: WeightsEnum, width: float) -> dict[str, Tensor] | None:
    """The weights of a whole detector; None where `weights` are a backbone's, or random."""
    whole = None
    if weights == "coco":
        whole = fetch_state(coco)
    elif weights not in ("imagenet", "random"):
        state = read_state(Path(weights))
        whole = state if any(name.startswith("backbone.") for name in state) else None
    if width != 1.0 and (weights == "coco" or (whole is None and weights != "random")):
        raise InputError(f"weights {weights} are for width 1, not {width}")
    return whole


def _finished(model: Detector, whole: dict[str, Tensor] | None, weights: str) -> Detector:
    """The model with the weights of a whole detector, if there are any, in the faster layout."""
    if whole is not None:
        own = model.state_dict()
        anew = {
            name: own[name]
            for name, value in whole.items()
            if name.startswith(OUTPUTS) and name in own and own[name].shape != value.shape
        }
        load_state(model, whole | anew, weights)
    for norm in model.modules() if weights == "coco" else ():
        if isinstance(norm, FrozenBatchNorm2d):  # trained with epsilon 0: keep that function
            norm.weight *= ((norm.running_var + norm.eps) / norm.running_var).sqrt()
    use_winograd(model)
    return model.to(memory_format=torch.channels_last)
