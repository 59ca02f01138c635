# SPDX-License-Identifier: Apache-2.0
"""The objectives, one file a method."""

from keras_ssl.models.joint_embedding import (
    BYOL,
    CACR,
    DCL,
    DCLW,
    NNCLR,
    SLA,
    BarlowTwins,
    GSimCLR,
    Hydra,
    JointEmbedding,
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
    "GSimCLR",
    "Hydra",
    "JointEmbedding",
    "MoCoV2",
    "MoCoV3",
    "NNCLR",
    "SLA",
    "SimCLR",
    "SimSiam",
    "SupCon",
    "VICReg",
]
