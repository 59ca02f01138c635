# SPDX-License-Identifier: Apache-2.0
"""The objectives, one file a method."""

from keras_ssl.models.joint_embedding import (
    BYOL,
    BarlowTwins,
    JointEmbedding,
    SimCLR,
    SimSiam,
    VICReg,
)

__all__ = ["BYOL", "BarlowTwins", "JointEmbedding", "SimCLR", "SimSiam", "VICReg"]
