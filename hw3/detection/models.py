"""The two detectors, put together from torchvision's parts: Faster R-CNN with FPN, and SSD300.

Label 0 is the background, signs are 1 to `labels`. In training mode a model takes images and
targets and returns its losses (`total_loss`), in evaluation mode detections (`predict`).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models import ResNet50_Weights, WeightsEnum, resnet50
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import (
    FasterRCNN,
    FasterRCNN_ResNet50_FPN_Weights,
    FastRCNNPredictor,
    TwoMLPHead,
)
from torchvision.models.detection.ssd import SSD, SSD300_VGG16_Weights, SSDFeatureExtractorVGG
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FrozenBatchNorm2d

from hw3 import backbones
from hw3.errors import InputError

Detections = dict[str, np.ndarray]
"""boxes_xyxy (n, 4) float32 in pixels, labels (n,) int64, scores (n,) float32, best first."""

VGG16_NORMALISATION = (backbones.VGG16_MEAN, backbones.VGG16_STD)
RESNET50_NORMALISATION = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
RESNET50_LEVELS = {"layer1": 256, "layer2": 512, "layer3": 1024, "layer4": 2048}
VGG16_LEVELS = {"15": 256, "22": 512, "29": 512}
"""Layers and channels that enter the pyramid; VGG16's are conv3_3, conv4_3, conv5_3 with ReLU."""
RESNET50_BLOCK_ENDS = (0, 4, 5, 6, 7, 8)
VGG16_BLOCK_ENDS = (0, 5, 10, 17, 24, 30)
"""Number of child modules in the first 0, 1, ... 5 blocks."""


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
    frozen_blocks: int = 2,
    rois_per_image: int = 512,
    score_threshold: float = 0.05,
) -> FasterRCNN:
    """Faster R-CNN (Ren et al. 2015) on a feature pyramid (Lin et al. 2017).

    Args:
        backbone: the pyramid is made of ResNet50's four stages (strides 4 to 32), or of VGG16's
            conv3_3, conv4_3, conv5_3 (strides 4 to 16); one level is pooled from the coarsest.
        weights: "coco" (torchvision's whole detector), "imagenet" (its backbone), "random", or
            the path of a file with either. Outputs that have another shape in the file, because
            labels or anchors differ, start anew. ResNet50's BatchNorm is frozen, as torchvision
            has it, unless the weights are random.
        anchor_sizes: sides in pixels of the resized image, one tuple a level.
        aspect_ratios: heights over widths of the anchors.
        image_size: (shortest side, bound of the longest) to resize to; None: native pixels.
        width: share of the channels of the backbone, and of the 1024 of the box head.
        frozen_blocks: how many of the backbone's five blocks, from the first, are not trained.
        rois_per_image: proposals drawn from an image for the box head's loss.
        score_threshold: detections below it are not returned.

    Raises:
        InputError: if settings contradict each other, or the weights cannot be had or do not fit.
    """
    if weights == "coco" and (backbone, fpn_channels) != ("resnet50-fpn", 256):
        raise InputError("weights: coco needs backbone resnet50-fpn and fpn_channels 256")
    whole = _detector_state(weights, FasterRCNN_ResNet50_FPN_Weights.COCO_V1, width)
    start = "random" if whole else weights
    if backbone == "resnet50-fpn":
        body = _resnet50(start, FrozenBatchNorm2d if weights != "random" else nn.BatchNorm2d)
        levels, block_ends = RESNET50_LEVELS, RESNET50_BLOCK_ENDS
        pyramid_class, normalisation = BackboneWithFPN, RESNET50_NORMALISATION
    else:
        body = backbones.vgg16_features(start)
        levels, block_ends = VGG16_LEVELS, VGG16_BLOCK_ENDS
        pyramid_class, normalisation = _ScaledPyramid, VGG16_NORMALISATION
    if len(anchor_sizes) != len(levels) + 1:
        needed = f"{backbone} has {len(levels) + 1}"
        raise InputError(f"anchor_sizes: {len(anchor_sizes)} levels given, {needed}")
    body = _narrowed(body, width)
    for block in list(body.children())[: block_ends[frozen_blocks]]:
        block.requires_grad_(False)
    pyramid = pyramid_class(
        body,
        {layer: str(level) for level, layer in enumerate(levels)},
        [round(width * channels) for channels in levels.values()],
        fpn_channels,
    )
    head_channels = round(width * 1024)
    model = FasterRCNN(
        pyramid,
        rpn_anchor_generator=AnchorGenerator(anchor_sizes, (aspect_ratios,) * len(anchor_sizes)),
        box_head=TwoMLPHead(fpn_channels * 7**2, head_channels),
        box_predictor=FastRCNNPredictor(head_channels, labels + 1),
        box_batch_size_per_image=rois_per_image,
        box_score_thresh=score_threshold,
    )
    transform = GeneralizedRCNNTransform if image_size else _NativeSize
    model.transform = transform(*(image_size or (0, 0)), *normalisation)
    _load_detector(model, whole, weights)
    return model


def build_ssd300(
    *,
    weights: str,
    labels: int = 4,
    width: float = 1.0,
    frozen_convolutions: int = 4,
    score_threshold: float = 0.01,
) -> SSD:
    """SSD300 on VGG16 (Liu et al. 2016), with the default boxes of torchvision's ssd300_vgg16.

    It resizes any image to 300x300; a 300-pixel tile (`hw3.detection.tiles`) stays as it is.

    Args:
        weights: as for `build_faster_rcnn`.
        labels: number of classes without the background.
        width: share of the channels of every convolution but the outputs.
        frozen_convolutions: how many convolutions, from the first, are not trained.
        score_threshold: detections below it are not returned.

    Raises:
        InputError: if the weights cannot be had or do not fit.
    """
    whole = _detector_state(weights, SSD300_VGG16_Weights.COCO_V1, width)
    features = backbones.vgg16_features("random" if whole else weights)
    extractor = _narrowed(SSDFeatureExtractorVGG(features, highres=False), width)
    extractor.scale_weight = nn.Parameter(extractor.scale_weight.data[: round(width * 512)])
    convolutions = [layer for layer in extractor.modules() if isinstance(layer, nn.Conv2d)]
    for convolution in convolutions[:frozen_convolutions]:
        convolution.requires_grad_(False)
    model = SSD(
        extractor,
        DefaultBoxGenerator(
            [[2], [2, 3], [2, 3], [2, 3], [2], [2]],
            scales=[0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05],
            steps=[8, 16, 32, 64, 100, 300],
        ),
        size=(300, 300),
        num_classes=labels + 1,
        image_mean=backbones.VGG16_MEAN,
        image_std=backbones.VGG16_STD,
        score_thresh=score_threshold,
    )
    _load_detector(model, whole, weights)
    return model


def total_loss(model: nn.Module, images: list[Tensor], targets: list[dict[str, Tensor]]) -> Tensor:
    """torchvision's own loss, the sum of its parts, of a model in training mode.

    Args:
        model: a detector built here.
        images: float (3, height, width) in [0, 1].
        targets: one an image: boxes float (g, 4) xyxy, labels int64 (g,) from 1; g may be 0.

    Raises:
        InputError: see `check_targets`.
    """
    check_targets(targets)
    return sum(model(images, targets).values())


def check_targets(targets: list[dict[str, Tensor]]) -> None:
    """Refuse boxes without area, whose loss is not finite, and signs labelled as background.

    Raises:
        InputError: naming every fault with its place in the batch.
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
    """Detections in a whole image, float (3, height, width) in [0, 1]. Sets evaluation mode."""
    return predict_batch(model, [image])[0]


@torch.no_grad()
def predict_batch(model: nn.Module, images: Sequence[Tensor]) -> list[Detections]:
    """As `predict`, for several images at once."""
    device = next(model.parameters()).device
    found = model.eval()([image.to(device) for image in images])
    names = {"boxes_xyxy": "boxes", "labels": "labels", "scores": "scores"}
    return [{name: one[key].cpu().numpy() for name, key in names.items()} for one in found]


class _NativeSize(GeneralizedRCNNTransform):
    """Normalises and makes batches, but leaves images as large as they are."""

    def resize(
        self, image: Tensor, target: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor] | None]:
        return image, target


class _ScaledPyramid(BackboneWithFPN):
    """VGG16's features reach hundreds: scaled, a pyramid trains at an ordinary learning rate."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return self.fpn({level: 0.02 * features for level, features in self.body(x).items()})


def _resnet50(weights: str, norm_layer: type[nn.Module]) -> nn.Module:
    network = resnet50(norm_layer=norm_layer)
    network.fc = nn.Identity()
    if weights != "random":
        imagenet = ResNet50_Weights.IMAGENET1K_V1
        fetched = weights == "imagenet"
        state = backbones.fetch_state(imagenet) if fetched else backbones.read_state(Path(weights))
        state = {name: value for name, value in state.items() if not name.startswith("fc.")}
        backbones.load_state(network, state, weights)
    return network


def _narrowed(module: nn.Module, width: float) -> nn.Module:
    """Give convolutions and norms `width` times the channels, drawn anew; RGB stays three."""

    def narrow(channels: int) -> int:
        return channels if channels == 3 else round(width * channels)

    for name, layer in module.named_children() if width != 1.0 else ():
        if isinstance(layer, nn.Conv2d):
            geometry = (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
            channels = (narrow(layer.in_channels), narrow(layer.out_channels))
            layer = nn.Conv2d(*channels, *geometry, bias=layer.bias is not None)
            backbones.he_initialise(layer)
            setattr(module, name, layer)
        elif isinstance(layer, nn.BatchNorm2d | FrozenBatchNorm2d):
            setattr(module, name, type(layer)(narrow(layer.weight.numel())))
        else:
            _narrowed(layer, width)
    return module


def _detector_state(weights: str, coco: WeightsEnum, width: float) -> dict[str, Tensor] | None:
    """The weights of a whole detector, or None where `weights` is something else."""
    state = None
    if weights == "coco":
        state = backbones.fetch_state(coco)
    elif weights not in ("imagenet", "random"):
        state = backbones.read_state(Path(weights))
        state = state if any(name.startswith("backbone.") for name in state) else None
    full_width_only = weights == "coco" or (state is None and weights != "random")
    if full_width_only and width != 1.0:
        raise InputError(f"weights: {weights} needs width 1.0, not {width}")
    return state


def _load_detector(model: nn.Module, state: dict[str, Tensor] | None, weights: str) -> None:
    """Load a whole detector, if there is one, but for outputs of another shape."""
    if state is None:
        return
    own = model.state_dict()
    outputs = ("roi_heads.box_predictor", "rpn.head.cls", "rpn.head.bbox", "head.classification")
    anew = {
        name: own[name]
        for name, value in state.items()
        if name.startswith(outputs) and name in own and own[name].shape != value.shape
    }
    backbones.load_state(model, state | anew, weights)
    for norm in model.modules() if weights == "coco" else ():
        if isinstance(norm, FrozenBatchNorm2d):  # trained with epsilon 0; this is the same map
            norm.weight *= ((norm.running_var + norm.eps) / norm.running_var).sqrt()
