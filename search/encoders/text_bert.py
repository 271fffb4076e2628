"""BERT and its kin, forward only and fast: queries, keys and values in one product, all else fused where it can be.

BERT (Devlin et al. 2018), RoBERTa (Liu et al. 2019), XLM-RoBERTa and CamemBERT (the same network), DistilBERT (Sanh et
al. 2019) and MPNet (Song et al. 2020).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from search.encoders.text_attention import attention_unpadded, unpadded_works
from search.encoders.text_batches import Batch, Network
from search.encoders.text_linear import ACTIVATIONS, FusedLinear, Linear, PlainLinear, fused_works

# Up to this many tokens a text, on a processor, plain products are faster than torch's fused attention.
SHORT = 64
# MPNet's distances between tokens: exact up to 8, then in growing steps up to 128, in either direction.
_BUCKETS, _FARTHEST = 32, 128


@dataclass(frozen=True, slots=True)
class Spelling:
    """How one kind of BERT names its weights: what stands before all, then the parts of a layer."""

    prefix: str
    layer: str = "encoder.layer.{}."
    query: str = "attention.self.query"
    key: str = "attention.self.key"
    value: str = "attention.self.value"
    output: str = "attention.output.dense"
    output_norm: str = "attention.output.LayerNorm"
    up: str = "intermediate.dense"
    down: str = "output.dense"
    down_norm: str = "output.LayerNorm"
    counts_from_padding: bool = False  # the first token's place is the one behind the padding's


_ROBERTA = Spelling("roberta.", counts_from_padding=True)
SPELLINGS = {
    "bert": Spelling("bert."),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "distilbert": Spelling(
        "distilbert.",
        layer="transformer.layer.{}.",
        query="attention.q_lin",
        key="attention.k_lin",
        value="attention.v_lin",
        output="attention.out_lin",
        output_norm="sa_layer_norm",
        up="ffn.lin1",
        down="ffn.lin2",
        down_norm="output_layer_norm",
    ),
    "mpnet": Spelling(
        "mpnet.",
        query="attention.attn.q",
        key="attention.attn.k",
        value="attention.attn.v",
        output="attention.attn.o",
        output_norm="attention.LayerNorm",
        counts_from_padding=True,
    ),
}
_PLACES, _WORDS, _TYPES = (
    f"embeddings.{name}_embeddings.weight" for name in ("position", "word", "token_type")
)
_RELATIVE = "encoder.relative_attention_bias.weight"


def covers(config: Mapping[str, Any]) -> bool:
    """Whether a checkpoint's config.json describes a network that `BertNetwork` computes."""
    return (
        config.get("model_type") in SPELLINGS
        and config.get("hidden_act", config.get("activation", "gelu")) in ACTIVATIONS
        and config.get("position_embedding_type", "absolute") == "absolute"
        and not config.get("is_decoder")
        and isinstance(config.get("num_attention_heads", config.get("n_heads")), int)
    )


@dataclass(frozen=True, slots=True)
class _Norm:
    weight: torch.Tensor
    bias: torch.Tensor
    epsilon: float

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return functional.layer_norm(x, self.weight.shape, self.weight, self.bias, self.epsilon)


@dataclass(frozen=True, slots=True)
class _Layer:
    query_key_value: Linear
    output: Linear
    output_norm: _Norm
    up: Linear
    down: Linear
    down_norm: _Norm


class BertNetwork(Network):
    """The network of a checkpoint that `covers` says yes to.

    Args:
        config: the checkpoint's config.json.
        weights: its tensors by name, in any precision.
        device: where to run it.
        dtype: in which number format.

    Raises:
        KeyError: a tensor is missing.
        ValueError: the tensors do not fit together.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        weights: Mapping[str, torch.Tensor],
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self._spelling = SPELLINGS[config["model_type"]]
        weights = {_plain_name(name, self._spelling.prefix): tensor for name, tensor in weights.items()}
        self.device, self.dtype = device, dtype
        self._heads = int(config.get("num_attention_heads", config.get("n_heads")))
        self.width = weights[_WORDS].shape[1]
        if self.width % self._heads:
            raise ValueError(f"{self.width} numbers cannot be shared by {self._heads} heads")
        self._activation = str(config.get("hidden_act", config.get("activation", "gelu")))
        self._epsilon = float(config.get("layer_norm_eps", 1e-12))
        fused = device.type == "cpu" and fused_works(dtype)
        self._linear: Callable[[torch.Tensor, torch.Tensor], Linear] = FusedLinear if fused else PlainLinear

        self._words = self._ready(weights[_WORDS])
        pad = int(config.get("pad_token_id") or 0) if self._spelling is _ROBERTA else 1
        first = pad + 1 if self._spelling.counts_from_padding else 0
        places = weights[_PLACES].float()[first:]
        types = weights.get(_TYPES)
        self._types = None if types is None else self._ready(types.float() - types[0].float())
        self._places = self._ready(places if types is None else places + types[0].float())
        self.window = len(places)
        self._norm = self._norm_of(weights, "embeddings.LayerNorm")
        self._relative = weights[_RELATIVE].float() if _RELATIVE in weights else None
        self._unpadded = self._relative is None and unpadded_works(device, dtype, self.width // self._heads)
        self._biases: dict[int, torch.Tensor] = {}
        self.depth = int(config.get("num_hidden_layers", config.get("n_layers", 0)))
        self._layers = [
            self._layer_of(weights, self._spelling.layer.format(number)) for number in range(self.depth)
        ]

    def states(self, batch: Batch, layers: tuple[int, ...]) -> torch.Tensor:
        rows, width = batch.ids.shape
        ids, places, types = batch.ids.view(-1), None, batch.types
        if batch.kept is not None:
            # Padding goes no further than attention: all else is done for tokens alone.
            ids, places = ids[batch.kept], batch.kept % width
        x = functional.embedding(ids, self._words)
        if places is not None:
            x = x + functional.embedding(places, self._places)
        else:
            x = (x.view(rows, width, self.width) + self._places[:width]).view(-1, self.width)
        if types is not None and self._types is not None:
            types = types.view(-1) if batch.kept is None else types.view(-1)[batch.kept]
            x = x + functional.embedding(types, self._types)
        x = self._norm(x)
        spread = None if batch.full else batch.mask().view(-1).cumsum(0) - 1
        unpadded = self._unpadded and not batch.full
        bias = None if unpadded else self._bias(batch)
        starts = functional.pad(batch.lengths.cumsum(0), (1, 0)).int() if unpadded else None
        chosen = [x] * layers.count(0)
        for number, layer in enumerate(self._layers[: max(layers)], start=1):
            packed = layer.query_key_value(x)
            if starts is not None:
                parts = packed.view(len(packed), 3, self._heads, self.width // self._heads)
                seen = attention_unpadded(parts, starts, width).reshape(-1, self.width)
            else:
                packed = packed if spread is None else packed.index_select(0, spread)
                seen = self._attention(packed.view(rows, width, -1), bias)
                seen = seen if batch.kept is None else seen.index_select(0, batch.kept)
            x = layer.output_norm(layer.output.added(seen, x))
            inner = layer.up.activated(x, self._activation)
            x = layer.down_norm(layer.down.added(inner, x))
            chosen += [x] * layers.count(number)
        x = torch.stack(chosen).float().mean(dim=0) if len(chosen) > 1 else chosen[0]
        x = x if spread is None else x.index_select(0, spread)
        return x.view(rows, width, self.width)

    def _attention(self, packed: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """(rows * width, self.width) of what each token sees.

        Args:
            packed: (rows, width, 3 * self.width) queries, which are scaled already, keys and values.
            bias: what is added to the scores.
        """
        rows, width = packed.shape[:2]
        parts = packed.view(rows, width, 3, self._heads, self.width // self._heads)
        queries, keys, values = parts.permute(2, 0, 3, 1, 4)
        if self.device.type == "cpu" and width <= SHORT:
            scores = torch.matmul(queries, keys.transpose(-1, -2))
            seen = torch.matmul(torch.softmax(scores if bias is None else scores + bias, dim=-1), values)
        else:
            seen = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=bias, scale=1.0)
        return seen.transpose(1, 2).reshape(rows * width, self.width)

    def _bias(self, batch: Batch) -> torch.Tensor | None:
        """What is added to the scores of attention: -inf for padding, and MPNet's distances."""
        distances = None if self._relative is None else self._distances(batch.ids.shape[1])
        if batch.full:
            return distances
        hidden = torch.zeros(batch.ids.shape, dtype=self.dtype, device=self.device)
        hidden = hidden.masked_fill_(~batch.mask(), -torch.inf)[:, None, None, :]
        return hidden if distances is None else hidden + distances

    def _distances(self, width: int) -> torch.Tensor:
        """(1, heads, width, width): MPNet's bias by distance (as in Raffel et al. 2020, sec. 2.1)."""
        assert self._relative is not None
        if width not in self._biases:
            places = torch.arange(width)
            ahead = places[None, :] - places[:, None]
            far = ahead.abs()
            half, exact = _BUCKETS // 2, _BUCKETS // 4
            steps = torch.log(far.clamp(min=1) / exact) / math.log(_FARTHEST / exact) * (half - exact)
            buckets = torch.where(far < exact, far, (exact + steps.long()).clamp(max=half - 1))
            buckets = buckets + half * (ahead > 0)
            bias = self._relative.cpu()[buckets].permute(2, 0, 1)[None].contiguous()
            self._biases[width] = self._ready(bias)
        return self._biases[width]

    def _layer_of(self, weights: Mapping[str, torch.Tensor], layer: str) -> _Layer:
        names = self._spelling
        attention = [layer + name for name in (names.query, names.key, names.value)]
        scales = ((self.width // self._heads) ** -0.5, 1.0, 1.0)
        weight, bias = (
            torch.cat([weights[name + what].float() * by for name, by in zip(attention, scales, strict=True)])
            for what in (".weight", ".bias")
        )

        def linear(name: str) -> Linear:
            weight, bias = weights[layer + name + ".weight"], weights[layer + name + ".bias"]
            return self._linear(self._ready(weight), self._ready(bias))

        return _Layer(
            query_key_value=self._linear(self._ready(weight), self._ready(bias)),
            output=linear(names.output),
            output_norm=self._norm_of(weights, layer + names.output_norm),
            up=linear(names.up),
            down=linear(names.down),
            down_norm=self._norm_of(weights, layer + names.down_norm),
        )

    def _norm_of(self, weights: Mapping[str, torch.Tensor], name: str) -> _Norm:
        return _Norm(
            self._ready(weights[name + ".weight"]), self._ready(weights[name + ".bias"]), self._epsilon
        )

    def _ready(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(self.device, self.dtype)


def _plain_name(name: str, prefix: str) -> str:
    """A tensor's name as transformers writes it today, without what a head on top puts before it."""
    name = name.removeprefix(prefix)
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
