# SPDX-License-Identifier: Apache-2.0
"""The named pipelines: published view recipes for ImageNet and for small images."""

import difflib
import logging
from dataclasses import dataclass, replace
from typing import Any

from keras_ssl.views.colour import (
    ColorJitter,
    GaussianNoise,
    Grayscale,
    Normalize,
    Solarize,
)
from keras_ssl.views.geometry import Affine, GaussianBlur, HorizontalFlip, RandomResizedCrop
from keras_ssl.views.multi import MultiCrop, Nested, TwoViews
from keras_ssl.views.pipeline import Pipeline

logger = logging.getLogger("keras_ssl")

SMALL_SIDE = 96
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CIFAR10 = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
HALVES = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
SWAV = ((0.485, 0.456, 0.406), (0.228, 0.224, 0.225))
# Pixel mean and standard deviation of scikit-learn's handwritten digits in 0..1.
DIGITS = (0.3053, 0.3760)


@dataclass(frozen=True)
class Row:
    """One view of a published recipe.

    Attributes:
        area: Range of the crop's share of the image area.
        jitter: Strengths of brightness, contrast, saturation and hue.
        blur: Probability of the Gaussian blur, sigma uniform in 0.1..2 pixels.
        solarize: Probability of inverting values of at least 0.5.
        size: Side of the view; None for that of the images.
        count: How many views of this kind.
        gray: Probability of grey.
        jitter_probability: Probability of the colour jitter.
        interpolation: Of the crop when exact; the fast path is bilinear.
        reference: Whose contrast and saturation, see `ColorJitter`.
        normalize: Mean and standard deviation.
        shift: Largest displacement as a share of the size, in place of a crop.
        nested: Whether it is cut out of the crop of the other row.
        flip: Whether half of the views are mirrored.
    """

    area: tuple[float, float]
    jitter: tuple[float, float, float, float]
    blur: float = 0.0
    solarize: float = 0.0
    size: int | None = 224
    count: int = 1
    gray: float = 0.2
    jitter_probability: float = 0.8
    interpolation: str = "bicubic"
    reference: str = "pil"
    normalize: tuple = IMAGENET
    shift: float | None = None
    nested: bool = False
    flip: bool = True


_NONE = (0.0, 0.0, 0.0, 0.0)
_STRONG, _HALF, _SOFT = (0.8, 0.8, 0.8, 0.2), (0.4, 0.4, 0.4, 0.1), (0.4, 0.4, 0.2, 0.1)
_BYOL = (
    Row((0.08, 1.0), _SOFT, blur=1.0),
    Row((0.08, 1.0), _SOFT, blur=0.1, solarize=0.2),
)
_SWAV = Row((0.14, 1.0), _STRONG, blur=0.5, count=2, interpolation="bilinear", normalize=SWAV)
_LEJEPA = Row((0.3, 1.0), _SOFT, blur=0.5, solarize=0.2, count=2)
_DINO = Row((0.4, 1.0), _SOFT, blur=1.0)

_MASKED = Row((0.2, 1.0), _NONE, gray=0.0)
_GMML = Row((0.05, 1.0), _SOFT, blur=0.1, count=2, gray=0.0, jitter_probability=0.3)
_IJEPA = Row((0.3, 1.0), _NONE, gray=0.0, flip=False)
# As they are measured: ratios of standardised values would mean nothing.
_PLAIN = ((0.0,) * 3, (1.0,) * 3)
_CONTRAST = (0.0, 0.5, 0.0, 0.0)
_RADAR = Row((0.2, 1.0), _CONTRAST, gray=0.0, jitter_probability=1.0, normalize=_PLAIN)
_CROP = Row((0.1, 1.0), _NONE, gray=0.0, interpolation="bilinear")


def _crop_pairs(outer: Row) -> dict[str, tuple[Row, ...]]:
    """CropMAE's strategies by name; the first view is seen whole, the second is hidden."""
    inner = replace(outer, area=(0.3, 0.6), nested=True)
    return {
        "crop_mae": (outer, inner),
        "crop_mae_local_to_global": (inner, outer),
        "crop_mae_random": (replace(outer, count=2),),
        "crop_mae_same": (outer,),
    }


# Sources: google-research/simclr; facebookresearch/mae, moco, simsiam, barlowtwins, vicreg, swav,
# dino; microsoft/SimMIM; keyu-tian/SparK; Sara-Ahmed/GMML, SiT; alexandre-eymael/CropMAE;
# Atten4Vis/CAE; facebookresearch/ijepa; lambert-x/medical_mae; bytedance/ibot; valeoai/Franca;
# google-deepmind BYOL; JegZheng/CACR-SSL; hankook/SLA; rbalestr-lab/lejepa;
# waterdisappear/SAR-JEPA. Hydra's crop on ImageNet is the usual one of supervised training, which
# its authors' data loader does not state.
IMAGENET_TABLE = {
    "simclr": (Row((0.08, 1.0), _STRONG, blur=0.5, count=2, reference="tensorflow"),),
    "moco_v2": (Row((0.2, 1.0), _HALF, blur=0.5, count=2),),
    "byol": _BYOL,
    "barlow_twins": _BYOL,
    "vicreg": _BYOL,
    "swav": (_SWAV, replace(_SWAV, area=(0.05, 0.14), size=96, count=6)),
    "dino": (
        _DINO,
        replace(_DINO, blur=0.1, solarize=0.2),
        replace(_DINO, area=(0.05, 0.4), blur=0.5, size=96, count=8),
    ),
    "ibot": (
        replace(_DINO, area=(0.25, 1.0)),
        replace(_DINO, area=(0.25, 1.0), blur=0.1, solarize=0.2),
        replace(_DINO, area=(0.05, 0.25), blur=0.5, size=96, count=10),
    ),
    "franca": (
        replace(_DINO, area=(0.32, 1.0)),
        replace(_DINO, area=(0.32, 1.0), blur=0.1, solarize=0.2),
        replace(_DINO, area=(0.05, 0.32), blur=0.5, size=98, count=8),
    ),
    "cacr": _BYOL,
    "hydra": (Row((0.08, 1.0), _NONE, gray=0.0),),
    "lejepa": (_LEJEPA, replace(_LEJEPA, area=(0.05, 0.3), size=98, count=6)),
    "sla": (Row((0.08, 1.0), _NONE, gray=0.0),),
    "mae": (_MASKED,),
    "simmim": (replace(_MASKED, area=(0.67, 1.0)),),
    "spark": (replace(_MASKED, area=(0.67, 1.0)),),
    "thorax_mae": (replace(_MASKED, area=(0.5, 1.0)),),
    "gmml": (_GMML,),
    "sit": tuple(replace(row, area=(0.2, 1.0)) for row in _BYOL),
    **_crop_pairs(_CROP),
    "cae": (replace(_MASKED, area=(0.08, 1.0)),),
    "ijepa": (_IJEPA,),
    "sar_jepa": (_RADAR,),
}

_SMALL = {"size": None, "normalize": CIFAR10}
_ASYMMETRIC = (
    Row((0.08, 1.0), _SOFT, **_SMALL),
    Row((0.08, 1.0), _SOFT, solarize=0.2, **_SMALL),
)
# Sources: google-research/simclr README; the CIFAR demo of facebookresearch/moco; solo-learn's
# CIFAR presets (asymmetric, vicreg, symmetric); JegZheng/CACR-SSL; erow/vitookit (SimLAP);
# hankook/SLA, whose crop from 4 pixels of padding is a shift; MINIMAL.md of rbalestr-lab/lejepa,
# whose blur would destroy images this small.
SMALL_TABLE = {
    "simclr": (Row((0.08, 1.0), _HALF, count=2, reference="tensorflow", **_SMALL),),
    "moco_v2": (Row((0.08, 1.0), _HALF, count=2, **_SMALL),),
    "byol": _ASYMMETRIC,
    "barlow_twins": _ASYMMETRIC,
    "vicreg": (Row((0.2, 1.0), _SOFT, solarize=0.1, count=2, **_SMALL),),
    "swav": (Row((0.08, 1.0), _STRONG, blur=0.5, count=2, **_SMALL),),
    "dino": _ASYMMETRIC,
    "ibot": _ASYMMETRIC,
    "franca": _ASYMMETRIC,
    "cacr": (Row((0.2, 1.0), (0.4, 0.4, 0.4, 0.4), jitter_probability=1.0, count=5, **_SMALL),),
    "lejepa": (Row((0.08, 1.0), _STRONG, solarize=0.2, count=4, **_SMALL),),
    "hydra": (Row((0.7, 1.0), _NONE, gray=0.0, **_SMALL),),
    "mae": (replace(_MASKED, **_SMALL),),
    "simmim": (replace(_MASKED, area=(0.67, 1.0), **_SMALL),),
    "spark": (replace(_MASKED, area=(0.67, 1.0), **_SMALL),),
    "thorax_mae": (replace(_MASKED, area=(0.5, 1.0), **_SMALL),),
    "gmml": (replace(_GMML, blur=0.0, **_SMALL),),
    "sit": tuple(replace(row, area=(0.2, 1.0)) for row in _ASYMMETRIC),
    **_crop_pairs(replace(_CROP, **_SMALL)),
    "cae": (replace(_MASKED, area=(0.08, 1.0), **_SMALL),),
    "ijepa": (replace(_IJEPA, **_SMALL),),
    "sar_jepa": (replace(_RADAR, size=None),),
    "sla": (Row((1.0, 1.0), _NONE, gray=0.0, size=None, normalize=HALVES, shift=0.125),),
}
for _table in (IMAGENET_TABLE, SMALL_TABLE):
    _table["simsiam"] = _table["moco_v2"]
# Sources: facebookresearch/luckmatters; wgcban/mix-bt.
for _name in ("direct_pred", "mixed_barlow_twins"):
    IMAGENET_TABLE[_name], SMALL_TABLE[_name] = _BYOL, SMALL_TABLE["moco_v2"]

NAMES = (*IMAGENET_TABLE, "digits")


def get(name, image_shape=(32, 32, 3), *, exact=False, seed=None):
    """Builds the views of a published recipe, or passes a layer through.

    Args:
        name: A name of `NAMES`, or a layer that makes views (also a `Pipeline`, seen twice).
        image_shape: (height, width, channels); sides of up to 96 use the small-image tables.
        exact: Build exact pipelines, with the recipe's own interpolation.
        seed: Seed of the layer's own generator.

    Returns:
        A `TwoViews`, `MultiCrop` or `Nested`.

    Raises:
        ValueError: For an unknown name or a shape of other than three numbers.

    Example:
        >>> first, second = get("simclr", (32, 32, 3))(images)
    """
    if isinstance(name, Pipeline):
        return TwoViews(name, seed=seed)
    if not isinstance(name, str):
        return name
    if name not in NAMES:
        near = difflib.get_close_matches(name, NAMES) or NAMES
        raise ValueError(f"Unknown views {name!r}; did you mean one of {list(near)}?")
    if len(image_shape) != 3 or None in tuple(image_shape):
        raise ValueError(f"`image_shape` must be (height, width, channels), got {image_shape}.")
    if name == "digits":
        return TwoViews(digits(image_shape), seed=seed)
    small = max(image_shape[:2]) <= SMALL_SIDE
    rows = (SMALL_TABLE if small else IMAGENET_TABLE)[name]
    if image_shape[2] != 3:
        logger.info("Images of %d channel(s): colour members left out.", image_shape[2])
    if any(row.nested for row in rows):
        return _nested(rows, image_shape, exact, seed)
    crops = [(build(row, image_shape, exact=exact), row.count) for row in rows]
    if sum(count for _, count in crops) == 2:
        return TwoViews(*(pipeline for pipeline, _ in crops), seed=seed)
    return MultiCrop(crops, seed=seed)


def _nested(rows, image_shape, exact: bool, seed) -> Nested:
    """Views of which some are cut out of the crop of the one row that is not `nested`."""
    (outer,) = (row for row in rows if not row.nested)
    crop, *rest = build(outer, image_shape, exact=exact).transforms
    crops = [
        build(row, image_shape, exact=exact) if row.nested else Pipeline(rest, exact=exact)
        for row in rows
    ]
    return Nested(Pipeline([crop], exact=exact), [(p, 1) for p in crops], seed=seed)


def build(row: Row, image_shape, *, exact: bool = False) -> Pipeline:
    """Builds the pipeline of one row of a table.

    Args:
        row: The row.
        image_shape: (height, width, channels) of the images.
        exact: As in `Pipeline`.

    Returns:
        A `Pipeline`; members of probability 0 are left out, and so are those that need RGB where
        the images are not.
    """
    channels = image_shape[2]
    size = row.size or tuple(image_shape[:2])
    interpolation = row.interpolation if exact else "bilinear"
    crop = RandomResizedCrop(size, row.area, interpolation=interpolation)
    members: list[Any] = [crop if row.shift is None else Affine(shift=row.shift)]
    members += [HorizontalFlip()] if row.flip else []
    brightness, contrast, saturation, hue = row.jitter
    mean, std = row.normalize
    if channels != 3:
        mean, std = sum(mean) / 3, sum(std) / 3
    if any(row.jitter):
        if channels == 3:
            members.append(
                ColorJitter(
                    brightness, contrast, saturation, hue, row.jitter_probability, row.reference
                )
            )
        elif channels == 1:
            members.append(ColorJitter(brightness, contrast, probability=row.jitter_probability))
    members += [Grayscale(row.gray)] if row.gray and channels == 3 else []
    members += [GaussianBlur(probability=row.blur)] if row.blur else []
    members += [Solarize(probability=row.solarize)] if row.solarize else []
    return Pipeline([*members, Normalize(mean, std)], exact=exact)


def digits(image_shape) -> Pipeline:
    """Views of handwritten digits: rotation, scale, shift, brightness and noise.

    Args:
        image_shape: (height, width, channels).

    Returns:
        A `Pipeline` that keeps the images' size.
    """
    members: list = [Affine(rotation=10.0, scale=(0.8, 1.2), shift=0.1)]
    if image_shape[2] in (1, 3):
        members.append(ColorJitter(brightness=0.4, probability=1.0))
    return Pipeline([*members, GaussianNoise((0.0, 0.1)), Normalize(*DIGITS)])
