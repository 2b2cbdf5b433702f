"""The two detectors, put together from torchvision's parts: Faster R-CNN with FPN, and SSD300.

Label 0 is the background, signs are 1 to 4. In training mode a model takes images and targets and
returns its losses, in evaluation mode detections (`predict`).
"""

from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

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
from hw3.data import InputError
from hw3.detection.gtsdb import GROUPS
from hw3.detection.tiles import TILE, Detections, merge, tile_origins, to_numpy
from hw3.settings import DetectionSettings, FasterRcnnSettings, SsdSettings

CLASSES = len(GROUPS) + 1
WHOLE_IMAGE = (800, 1333)
"""Shortest and longest side that Faster R-CNN resizes to where it is trained on whole images."""
SCORE_THRESHOLD = 0.05
"""Detections below it are not returned."""
_SIZES = ((16, 24), (32, 48), (64, 96), (128, 192), (256, 384))
ANCHORS = {"resnet50-fpn": _SIZES, "vgg16-fpn": _SIZES[:4]}
"""Sides in pixels of the square anchors on each level of the pyramid."""
OUTPUTS = ("roi_heads.box_predictor", "rpn.head.cls", "rpn.head.bbox", "head.classification")
"""Layers that start anew where a weights file, made for other labels or anchors, does not fit."""
VGG16_BLOCKS = (0, 5, 10, 17, 24, 30)
"""Where VGG16's blocks end among its layers."""
STEM = VGG16_BLOCKS[3] - 1
"""Layers that are before the third pooling."""
WHOLE_PIXELS = 2_500_000
"""A larger image of native size is looked at in parts, which bounds memory to about 3 GB."""
PART, PART_OVERLAP = 1360, 400
"""Side of these parts and the pixels that they share, more than the largest anchor has."""


def build(settings: DetectionSettings, weights: str = "random") -> nn.Module:
    """The detector that the settings describe, whatever weights they name, in the faster layout.

    Faster R-CNN (Ren et al. 2015) on a feature pyramid (Lin et al. 2017): ResNet50's stages
    (strides 4 to 32) make it, or VGG16's conv3_3, conv4_3 and conv5_3 (strides 4 to 16); one more
    level is pooled from the coarsest. `width` is a share of the box head's 1024 channels, too;
    below 1, VGG16 gets BatchNorm, without which it hardly trains from random weights.

    SSD300 (Liu et al. 2016) on VGG16, with the default boxes of torchvision's ssd300_vgg16. It
    resizes any image to 300x300; a 300-pixel tile (`hw3.detection.tiles`) stays as it is.

    Args:
        settings: a `FasterRcnnSettings` or `SsdSettings`.
        weights: "coco" (torchvision's whole detector), "imagenet" (its backbone), "random", or a
            file with either; see `OUTPUTS`. ResNet50's BatchNorm is frozen, as in torchvision,
            unless it starts at random or with a file of a detector that trained it.

    Example:
        >>> from hw3.settings import OURS
        >>> model = build(OURS["faster-rcnn"].but(width=1 / 16))
        >>> model.roi_heads.box_predictor.cls_score
        Linear(in_features=64, out_features=5, bias=True)
    """
    return (_ssd300 if isinstance(settings, SsdSettings) else _faster_rcnn)(settings, weights)


def _faster_rcnn(settings: FasterRcnnSettings, weights: str) -> faster_rcnn.FasterRCNN:
    channels, head_channels = settings.fpn_channels, round(settings.width * 1024)
    if weights == "coco" and (settings.backbone, channels) != ("resnet50-fpn", 256):
        raise InputError("weights coco are for resnet50-fpn with 256 fpn_channels")
    coco = faster_rcnn.FasterRCNN_ResNet50_FPN_Weights.COCO_V1
    whole = _detector_state(weights, coco, settings.width)
    start = "random" if whole else weights
    if settings.backbone == "resnet50-fpn":
        pyramid = _resnet50_fpn(start, settings, _norm_layer(weights, whole))
        mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    else:
        pyramid, mean, std = _vgg16_fpn(start, settings), VGG16_MEAN, VGG16_STD
    sizes = ANCHORS[settings.backbone]
    model = faster_rcnn.FasterRCNN(
        pyramid,
        rpn_anchor_generator=_FullPrecisionAnchors(sizes, ((1.0,),) * len(sizes)),
        box_head=faster_rcnn.TwoMLPHead(channels * 7**2, head_channels),
        box_predictor=faster_rcnn.FastRCNNPredictor(head_channels, CLASSES),
        box_score_thresh=SCORE_THRESHOLD,
        box_batch_size_per_image=settings.rois_per_image,
        rpn_post_nms_top_n_train=settings.proposals,
    )
    transform = _NativeSize if settings.crops else GeneralizedRCNNTransform
    model.transform = transform(*WHOLE_IMAGE, mean, std)
    _full_precision_outputs(model.rpn.head, model.roi_heads.box_predictor)
    return _finished(model, whole, weights)


def _ssd300(settings: SsdSettings, weights: str) -> "SSD300":
    whole = _detector_state(weights, ssd.SSD300_VGG16_Weights.COCO_V1, settings.width)
    features = vgg16_features("random" if whole else weights)
    extractor = ssd.SSDFeatureExtractorVGG(features, highres=False)
    for place, block in enumerate([extractor.features, *extractor.extra]):
        _narrow(block, settings.width, norm=place < 2)  # the later maps shrink to one pixel
    scale = extractor.scale_weight.data[: round(settings.width * 512)]
    extractor.scale_weight = nn.Parameter(scale)
    layers = nn.Sequential(*extractor.features, *extractor.extra[0])
    layers[: VGG16_BLOCKS[settings.frozen_blocks]].requires_grad_(False)
    model = SSD300(
        extractor,
        DefaultBoxGenerator(
            [[2], [2, 3], [2, 3], [2, 3], [2], [2]],
            scales=[0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05],
            steps=[8, 16, 32, 64, 100, 300],
        ),
        size=(TILE, TILE),
        num_classes=CLASSES,
        image_mean=VGG16_MEAN,
        image_std=VGG16_STD,
        score_thresh=SCORE_THRESHOLD,
    )
    model.mining = settings.mining
    _full_precision_outputs(model.head)
    return _finished(model, whole, weights)


class SSD300(ssd.SSD):
    """torchvision's SSD; tiles can share its first layers, and empty images can teach it."""

    mining: Literal["image", "batch"] = "image"

    def compute_loss(
        self,
        targets: list[dict[str, Tensor]],
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
        matched_idxs: list[Tensor],
    ) -> dict[str, Tensor]:
        """torchvision's loss, with the hardest background of each image, or of the whole batch.

        Three background boxes count for each box on a sign. Where they come from the same image, as
        in torchvision, an image without a sign adds nothing. Here the batch can be handed on as one
        image with all the boxes, so that false alarms count wherever they are.
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
        """VGG16's first three blocks of images in [0, 1] of any size; a quarter as large."""
        normalised = torch.stack([self.transform.normalize(image) for image in images])
        return self.backbone.features[:STEM](normalised.to(memory_format=torch.channels_last))

    def finish(self, features: Tensor) -> list[dict[str, Tensor]]:
        """Detections in tiles, in their pixels, from their part of the stem's features."""
        x = self.backbone.features[STEM:](features)
        maps = [self.backbone.scale_weight.view(1, -1, 1, 1) * normalize(x)]
        for block in self.backbone.extra:
            x = block(x)
            maps.append(x)
        sizes = [(TILE, TILE)] * len(features)
        tiles = ImageList(features.new_empty(len(features), 3, TILE, TILE), sizes)
        anchors = self.anchor_generator(tiles, maps)
        return self.postprocess_detections(self.head(maps), anchors, sizes)


@torch.no_grad()
def predict(model: nn.Module, image: Tensor) -> Detections:
    """Detections in a whole image, float (3, height, width) in [0, 1]. Sets evaluation mode."""
    if isinstance(model.transform, _NativeSize) and image[0].numel() > WHOLE_PIXELS:
        height, width = image.shape[1:]
        origins = tile_origins(height, width, PART, PART_OVERLAP)
        parts = [predict(model, image[:, y : y + PART, x : x + PART]) for x, y in origins]
        return merge(parts, origins, (height, width), PART)
    device = next(model.parameters()).device
    return to_numpy(model.eval()([image.to(device)]))[0]


def _full_precision_outputs(*heads: nn.Module) -> None:
    """Let heads return float32 under mixed precision.

    torchvision casts boxes to the type of offsets; bfloat16 has steps of 4 pixels at 1000.
    """

    def widen(_head: nn.Module, _inputs: object, outputs: Any) -> Any:
        return tree_map(lambda tensor: tensor.float(), outputs)

    for head in heads:
        head.register_forward_hook(widen)


class _FullPrecisionAnchors(AnchorGenerator):
    """Anchors in float32, where torchvision gives them the type of the features."""

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


def _vgg16_fpn(weights: str, settings: FasterRcnnSettings) -> BackboneWithFPN:
    features, width = vgg16_features(weights), settings.width
    _narrow(features, width, norm=True)
    features[: VGG16_BLOCKS[settings.frozen_blocks]].requires_grad_(False)
    levels = {"15": "0", "22": "1", "29": "2"}
    inputs = [round(width * outputs) for outputs in (256, 512, 512)]
    pyramid = _ScaledPyramid if width == 1.0 else BackboneWithFPN  # BatchNorm has scaled already
    return pyramid(features, levels, inputs, settings.fpn_channels)


def _resnet50_fpn(
    weights: str, settings: FasterRcnnSettings, norm_layer: type[nn.Module]
) -> BackboneWithFPN:
    """A pyramid with BatchNorm (Li et al. 2021) where the network's own is trained.

    Without it a ResNet50 from random weights falls silent at a high learning rate.
    """
    network, width = resnet50(norm_layer=norm_layer), settings.width
    if weights == "imagenet":
        load_state(network, fetch_state(ResNet50_Weights.IMAGENET1K_V1), weights)
    elif weights != "random":
        load_state(network, read_state(Path(weights)), weights)
    _narrow(network, width)
    frozen = (0, 4, 5, 6, 7, 8)[settings.frozen_blocks]
    nn.Sequential(*network.children())[:frozen].requires_grad_(False)
    levels = {"layer1": "0", "layer2": "1", "layer3": "2", "layer4": "3"}
    inputs = [round(width * outputs) for outputs in (256, 512, 1024, 2048)]
    fpn_norm = norm_layer if norm_layer is nn.BatchNorm2d else None
    return BackboneWithFPN(network, levels, inputs, settings.fpn_channels, norm_layer=fpn_norm)


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


def _finished(model: nn.Module, whole: dict[str, Tensor] | None, weights: str) -> nn.Module:
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
    return model.to(memory_format=torch.channels_last)
