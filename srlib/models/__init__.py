"""The networks of the course, and what they cost. Each is ``Upscaler(body, head, skip)``: convolutions at LR size,
a head that turns channels into scale x scale pixels, and maybe an interpolation of the input, which is added."""

from srlib.models.bodies import folded
from srlib.models.cost import count_multiply_adds, count_parameters, layer_table, milliseconds
from srlib.models.heads import HEADS, TiedConv2d, icnr_, tying
from srlib.models.networks import MODELS, Interpolation, LumaOnly, PerChannel, SelfEnsemble, build, upscaler
