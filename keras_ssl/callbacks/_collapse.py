# SPDX-License-Identifier: Apache-2.0
"""The signs of a collapse: what is measured on a batch of embeddings, and when it is too little."""

import math
from dataclasses import dataclass, fields, replace

import numpy as np

from keras_ssl.metrics import feature_std, mean_cosine, rank_me


@dataclass(frozen=True)
class CollapseThresholds:
    """When `RepresentationMonitor` calls a number a sign of a collapse.

    The defaults stay silent on healthy runs of SimCLR, SimSiam, BYOL and VICReg with small
    encoders. D is the number of dimensions and N the number of watched samples.

    Args:
        feature_std: share of 1/sqrt(D) below which the spread on the sphere is gone. Healthy ReLU
            representations share a large common part, which pushes them to about 0.1; collapsed
            ones fall below 0.01.
        cosine: mean pairwise cosine above which all have one direction.
        rank_me: effective rank below which all are on one line.
        fallen_feature_std: the same as `feature_std` for projections whose feature std fell; a
            fresh network starts as low, but does not fall.
        fallen_rank_me: share of min(N, D) below which a RankMe of projections that fell is a sign.
        fallen: share of the highest value so far below which a number fell.
        shrunk: share of its highest value below which a projection's standard deviation shrank.
        even: share of ln K above which the teacher's distribution of one image is uniform. A
            fresh teacher is sharp, its temperature sees to that.
        one_hot: share of ln K below which all images take one prototype.

    Raises:
        ValueError: if a share or the cosine is outside of 0..1, or `rank_me` below 0.

    Example:
        ```python
        strict = CollapseThresholds(rank_me=8.0, feature_std=0.05)
        monitor = RepresentationMonitor(images[:256], thresholds=strict)
        ```
    """

    feature_std: float = 0.02
    cosine: float = 0.999
    rank_me: float = 1.5
    fallen_feature_std: float = 0.2
    fallen_rank_me: float = 0.08
    fallen: float = 0.6
    # An objective that only pulls together shrinks embeddings before it turns them the same way.
    shrunk: float = 0.1
    even: float = 0.98
    one_hot: float = 0.05

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            top = math.inf if field.name == "rank_me" else 1.0
            if not 0 <= value <= top:
                raise ValueError(f"{field.name} is {value}, expected a number from 0 to {top:g}.")


@dataclass(frozen=True)
class Measurement:
    """What one batch of embeddings looks like.

    Args:
        dimensions: D.
        finite: whether every number is.
        rank_me: effective rank.
        feature_std: mean standard deviation of the L2-normalised rows.
        cosine: mean cosine of all pairs.
        scale: mean standard deviation of the rows as they are.
    """

    dimensions: int
    finite: bool
    rank_me: float = float("nan")
    feature_std: float = float("nan")
    cosine: float = float("nan")
    scale: float = float("nan")


def measure(z: np.ndarray) -> Measurement:
    """Measures a batch of embeddings.

    Args:
        z: (N, D) array, N at least 2.

    Returns:
        The `Measurement`; nothing but `finite` when a number is not finite.
    """
    z = np.asarray(z, "float32")
    if not np.isfinite(z).all():
        return Measurement(z.shape[1], finite=False)
    return Measurement(
        dimensions=z.shape[1],
        finite=True,
        rank_me=float(rank_me(z)),
        feature_std=float(feature_std(z)),
        cosine=float(mean_cosine(z)),
        scale=float(np.mean(np.std(z.astype("float64"), axis=0))),
    )


@dataclass(frozen=True)
class Assignment:
    """How a batch is spread over prototypes, in shares of ln K, the entropy of an even spread.

    Args:
        prototypes: K.
        each: mean entropy of one sample's distribution; near 1, every sample is even over all.
        together: entropy of the mean distribution; near 0, all samples take one prototype.
    """

    prototypes: int
    each: float
    together: float


def measure_assignment(probabilities: np.ndarray) -> Assignment:
    """Measures distributions over prototypes.

    Args:
        probabilities: (N, K) array, rows that sum to 1, K at least 2.

    Returns:
        The `Assignment`.
    """
    p = np.asarray(probabilities, "float64")
    even = np.log(p.shape[1])

    def entropy(x):
        return -np.sum(x * np.log(np.maximum(x, 1e-30)), axis=-1)

    return Assignment(p.shape[1], float(entropy(p).mean() / even), float(entropy(p.mean(0)) / even))


def assignment_signs(now: Assignment, limits: CollapseThresholds) -> list[str]:
    """Names the two collapses of self-distillation.

    Args:
        now: the measurement.
        limits: when it is one.

    Returns:
        One sentence a sign; empty for a healthy teacher.
    """
    ceiling = np.log(now.prototypes)
    found = []
    if now.each > limits.even:
        found.append(
            f"uniform collapse: the teacher's distribution of one image has entropy "
            f"{now.each * ceiling:.2f}, that of an even one over K = {now.prototypes} prototypes "
            f"is ln K = {ceiling:.2f}; the loss stays there"
        )
    if now.together < limits.one_hot:
        found.append(
            f"one-hot collapse: all images take the same of K = {now.prototypes} prototypes "
            f"(entropy of their mean {now.together * ceiling:.3f}, ln K = {ceiling:.2f}); the loss "
            "goes to 0"
        )
    return found


def best(earlier: Measurement | None, now: Measurement) -> Measurement:
    """The largest of every number so far.

    Args:
        earlier: the largest before, or None.
        now: the measurement.

    Returns:
        A `Measurement`; `earlier` when `now` is not finite.
    """
    if earlier is None or not now.finite:
        return earlier or now
    if not earlier.finite:
        return now
    names = ("rank_me", "feature_std", "cosine", "scale")
    largest = {name: max(getattr(earlier, name), getattr(now, name)) for name in names}
    return replace(now, **largest)


def signs(
    now: Measurement,
    top: Measurement,
    limits: CollapseThresholds,
    *,
    rows: int,
    head: bool = False,
) -> list[str]:
    """Names every sign of a collapse in a measurement.

    Args:
        now: the measurement.
        top: the `best` of it and all earlier ones.
        limits: when a number is a sign.
        rows: number of samples measured, N.
        head: whether these are outputs of a head. Objectives spread those, so that a fall is
            a sign; the non-negative representation below a head may well fall to a tenth.

    Returns:
        One sentence a sign with the number and its limit; empty for healthy embeddings.
    """
    if not now.finite:
        return ["they hold NaN or infinity"]
    found = []
    even = now.dimensions**-0.5
    fell = head and now.feature_std < min(
        limits.fallen_feature_std * even, limits.fallen * top.feature_std
    )
    if now.feature_std < limits.feature_std * even or fell:
        found.append(
            f"their feature std after L2 normalisation is {now.feature_std:.2g}, far below "
            f"1/sqrt(D) = {even:.2g}"
        )
    fullest = min(rows, now.dimensions)
    fell = head and now.rank_me < min(limits.fallen_rank_me * fullest, limits.fallen * top.rank_me)
    # One dimension has rank 1 by nature.
    if now.dimensions > 1 and (now.rank_me < limits.rank_me or fell):
        found.append(
            f"their RankMe is {now.rank_me:.2f} of {fullest} (highest so far {top.rank_me:.1f}), "
            "near 1"
        )
    if now.cosine > limits.cosine:
        found.append(f"their mean pairwise cosine is {now.cosine:.4f}, near 1")
    if head and now.scale < limits.shrunk * top.scale:
        found.append(f"their standard deviation shrank from {top.scale:.2g} to {now.scale:.2g}")
    return found


_APART = (
    "Check what should keep embeddings apart: a stop-gradient on the targets (SimSiam), a "
    "predictor and a teacher momentum near 1 (BYOL, I-JEPA), the variance weight (VICReg), "
    "negatives or a batch that is large enough (SimCLR, Barlow Twins), batch normalisation in the "
    "projector; then lower the learning rate."
)
# By a word of the sign; of several signs the first here has the cause of the others.
_ADVICE = {
    "NaN": "Lower the learning rate or lengthen its warm-up, clip gradients (`clipnorm`), and "
    "check the inputs for NaN.",
    "uniform collapse": "Lower the teacher's temperature (0.04 to begin with), or raise the "
    "teacher's momentum for small batches (0.9995 at 256).",
    "one-hot collapse": "Check that the centre follows the teacher (center_momentum below 1), "
    "raise the teacher's temperature, freeze the prototypes longer, and lower the learning rate.",
    "feature std": _APART,
    "cosine": _APART,
    "shrank": "Nothing holds their size: raise the variance weight (VICReg) or the weight of the "
    "regulariser (LeJEPA), or compare L2-normalised embeddings.",
    "RankMe": "Few dimensions are in use: raise the weight that decorrelates them (covariance in "
    "VICReg, off-diagonal in Barlow Twins), enlarge the batch or lower the temperature (SimCLR, "
    "MoCo), widen the projector, and check that views differ.",
}


def advice(found: list[str]) -> str:
    """What to check, for the signs found.

    Args:
        found: sentences of `signs` or `assignment_signs`, at least one.

    Returns:
        One or two sentences that name remedies and the methods that have them.
    """
    return next(text for word, text in _ADVICE.items() if any(word in sign for sign in found))
