# SPDX-License-Identifier: Apache-2.0
"""Objectives that compare projections of several views of one image."""

from keras_ssl.models.joint_embedding.barlow_twins import BarlowTwins
from keras_ssl.models.joint_embedding.byol import BYOL
from keras_ssl.models.joint_embedding.cacr import CACR
from keras_ssl.models.joint_embedding.dcl import DCL, DCLW
from keras_ssl.models.joint_embedding.direct_pred import DirectPred
from keras_ssl.models.joint_embedding.engine import JointEmbedding
from keras_ssl.models.joint_embedding.gsimclr import GSimCLR
from keras_ssl.models.joint_embedding.hydra import Hydra
from keras_ssl.models.joint_embedding.lejepa import LeJEPA
from keras_ssl.models.joint_embedding.mixed_barlow_twins import MixedBarlowTwins
from keras_ssl.models.joint_embedding.moco_v2 import MoCoV2
from keras_ssl.models.joint_embedding.moco_v3 import MoCoV3
from keras_ssl.models.joint_embedding.nnclr import NNCLR
from keras_ssl.models.joint_embedding.sie import SIE
from keras_ssl.models.joint_embedding.simclr import SimCLR
from keras_ssl.models.joint_embedding.simsiam import SimSiam
from keras_ssl.models.joint_embedding.sla import SLA
from keras_ssl.models.joint_embedding.sup_con import SupCon
from keras_ssl.models.joint_embedding.vicreg import VICReg

__all__ = [
    "BYOL",
    "BarlowTwins",
    "CACR",
    "DCL",
    "DCLW",
    "DirectPred",
    "GSimCLR",
    "Hydra",
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
    "VICReg",
]
