# SPDX-License-Identifier: Apache-2.0
"""The objectives, one file a method."""

from keras_ssl.models.joint_embedding import (
    BYOL,
    CACR,
    DCL,
    DCLW,
    NNCLR,
    BarlowTwins,
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
    "JointEmbedding",
    "MoCoV2",
    "MoCoV3",
    "NNCLR",
    "SimCLR",
    "SimSiam",
    "SupCon",
    "VICReg",
]
