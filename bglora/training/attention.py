"""Attention over adapted projections: those that read one input are applied at once."""

from __future__ import annotations

from typing import Any

from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor
from torch.nn import functional

from bglora.training.low_rank import Joint, LowRankLinear


def can_join(attention: Any) -> bool:
    """Whether `JointAttention` computes what this `diffusers` Attention does: SDXL's own kind, all of it adapted."""
    projections = (attention.to_q, attention.to_k, attention.to_v)
    return (
        type(attention.processor) is AttnProcessor2_0
        and all(isinstance(projection, LowRankLinear) for projection in projections)
        and not any((attention.spatial_norm, attention.group_norm, attention.norm_q, attention.norm_k))
        and not (attention.norm_cross or attention.residual_connection)
        and attention.rescale_output_factor == 1.0
    )


class JointAttention:
    """Attention processor: AttnProcessor2_0 with one product for the downs of queries, keys and values."""

    def __init__(self, attention: Any) -> None:
        self.plain: Any = attention.processor
        self.all, self.context = None, None
        if attention.is_cross_attention:
            self.context = Joint([attention.to_k, attention.to_v])
        else:
            self.all = Joint([attention.to_q, attention.to_k, attention.to_v])

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        """hidden_states (b, n, c), encoder_hidden_states (b, m, d). Masked attention is diffusers' own."""
        crossed = encoder_hidden_states is not None
        if attention_mask is not None or hidden_states.ndim != 3 or crossed != (self.context is not None):
            plain: Tensor = self.plain(attn, hidden_states, encoder_hidden_states, attention_mask, *args, **kwargs)
            return plain
        if self.all is not None:
            query, key, value = self.all(hidden_states)
        else:
            assert self.context is not None and encoder_hidden_states is not None
            query = attn.to_q(hidden_states)
            key, value = self.context(encoder_hidden_states)
        query, key, value = (_heads(part, attn.heads) for part in (query, key, value))
        mixed = functional.scaled_dot_product_attention(query, key, value)
        mixed = mixed.transpose(1, 2).flatten(2).to(query.dtype)
        result: Tensor = attn.to_out[1](attn.to_out[0](mixed))
        return result


def _heads(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)
