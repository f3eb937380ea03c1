"""The networks of the course: bodies that make features, heads that make pixels, and what they cost.

A network here is ``Upscaler(body, head, skip)``: a stack of convolutions at LR size, a head that turns
channels into scale x scale pixels, and optionally an interpolation of the input to which it all is added.
"""

from srlib.models.bodies import CollapsibleConv2d
from srlib.models.cost import count_multiply_adds, count_parameters, layer_table, milliseconds
from srlib.models.folding import folded
from srlib.models.heads import HEADS, TiedConv2d, icnr_, tying
from srlib.models.networks import (
    MODELS,
    Consistent,
    Interpolation,
    LumaOnly,
    PerChannel,
    SelfEnsemble,
    build,
    upscaler,
)
