"""diffusers' U-Net, with what the published networks need beyond it."""

from diffusers import UNet2DModel
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention_processor import Attention


class UNet(UNet2DModel):
    """A U-Net whose attention has either heads of one width or `heads` heads at every level.

    diffusers fixes the width of a head; the published networks fix their number. A wrong number
    shows in no shape, only in pictures that are slightly off: so it is part of the configuration,
    and `save_pretrained` and `from_pretrained` keep it. Time steps and conditions modulate by
    scale and shift, the condition enters as an embedding.
    """

    @register_to_config
    def __init__(
        self,
        sample_size: int,
        in_channels: int,
        out_channels: int,
        block_out_channels: tuple[int, ...],
        layers_per_block: int,
        down_block_types: tuple[str, ...],
        up_block_types: tuple[str, ...],
        add_attention: bool,
        norm_num_groups: int,
        attention_head_dim: int | None = None,
        heads: int | None = None,
    ) -> None:
        if (heads is None) == (attention_head_dim is None):
            msg = "give either heads or attention_head_dim"
            raise ValueError(msg)
        super().__init__(
            sample_size=sample_size,
            in_channels=in_channels,
            out_channels=out_channels,
            block_out_channels=block_out_channels,
            layers_per_block=layers_per_block,
            down_block_types=down_block_types,
            up_block_types=up_block_types,
            add_attention=add_attention,
            norm_num_groups=norm_num_groups,
            attn_norm_num_groups=norm_num_groups,  # else the middle's attention loses its norm
            attention_head_dim=attention_head_dim,
            resnet_time_scale_shift="scale_shift",
            class_embed_type="identity",
        )
        if heads is not None:
            for module in self.modules():
                if isinstance(module, Attention):
                    module.heads = heads
                    module.scale = (module.inner_dim // heads) ** -0.5
