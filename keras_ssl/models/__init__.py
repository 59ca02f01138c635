# SPDX-License-Identifier: Apache-2.0
"""The objectives, one file a method."""

from keras_ssl.models.clustering import DeepClusterV2, SwAV
from keras_ssl.models.distillation import DINO, IBOT
from keras_ssl.models.joint_embedding import (
    BYOL,
    CACR,
    DCL,
    DCLW,
    NNCLR,
    SIE,
    SLA,
    BarlowTwins,
    DirectPred,
    GSimCLR,
    Hydra,
    JointEmbedding,
    LeJEPA,
    MixedBarlowTwins,
    MoCoV2,
    MoCoV3,
    SimCLR,
    SimSiam,
    SupCon,
    VICReg,
)

__all__ = [
    "BYOL",
    "BarlowTwins",
    "CACR",
    "DCL",
    "DCLW",
    "DINO",
    "DeepClusterV2",
    "DirectPred",
    "GSimCLR",
    "Hydra",
    "IBOT",
    "JointEmbedding",
    "LeJEPA",
    "MixedBarlowTwins",
    "MoCoV2",
    "MoCoV3",
    "NNCLR",
    "SIE",
    "SLA",
    "SimCLR",
    "SimSiam",
    "SupCon",
    "SwAV",
    "VICReg",
]
