"""The networks of the course: bodies that make features, heads that make pixels, and what they cost.

A network here is ``Upscaler(body, head, skip)``: a stack of convolutions at LR size, a head that turns
channels into scale x scale pixels, and optionally an interpolation of the input to which it all is added.
"""

from srlib.models.bodies import CollapsibleConv2d, ResidualBlock, plain_body, residual_body, wide_body
from srlib.models.cost import count_multiply_adds, count_parameters, layer_table
from srlib.models.folding import Folding, folded
from srlib.models.heads import HEADS, BoxFilter, Resize, TiedConv2d, tying
from srlib.models.initialisation import icnr_, initialise_
from srlib.models.networks import (
    MODELS,
    TASKS,
    Interpolation,
    LumaOnly,
    PerChannel,
    SelfEnsemble,
    Upscaler,
    build,
    upscaler,
)

__all__ = [
    "HEADS",
    "MODELS",
    "TASKS",
    "BoxFilter",
    "CollapsibleConv2d",
    "Folding",
    "Interpolation",
    "LumaOnly",
    "PerChannel",
    "ResidualBlock",
    "Resize",
    "SelfEnsemble",
    "TiedConv2d",
    "Upscaler",
    "build",
    "count_multiply_adds",
    "count_parameters",
    "folded",
    "icnr_",
    "initialise_",
    "layer_table",
    "plain_body",
    "residual_body",
    "tying",
    "upscaler",
    "wide_body",
]
