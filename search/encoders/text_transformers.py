"""Networks for texts through the libraries that publish them: transformers, and sentence-transformers' own modules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from search.encoders.text_batches import Batch, Network
from search.encoders.text_checkpoint import Checkpoint
from search.errors import ModelUnavailable

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

# What need not be in a checkpoint: a layer that only serves to train, and is not used here.
_UNUSED = "pooler"


class TransformersNetwork(Network):
    """Any network of the library transformers that reads tokens and gives hidden states.

    Layer numbers are those of transformers' own `hidden_states`: in most decoders the last has gone through the
    final norm, the others have not.
    """

    def __init__(self, model: Any) -> None:
        self._model = model.eval()
        if getattr(model.config, "use_cache", None):
            model.config.use_cache = False  # keys and values for a next token that never comes
        self.device = model.device
        self.dtype = model.dtype
        self.depth = int(model.config.num_hidden_layers)
        self.width = int(model.config.hidden_size)

    @property
    def window(self) -> int | None:
        """How many places the network has for tokens; None where there is no limit."""
        places = getattr(self._model.config, "max_position_embeddings", None)
        if not isinstance(places, int) or places <= 0:
            return None
        # RoBERTa and its kin count places from behind the padding's, so that the last ones cannot be used.
        skipped = [
            module.padding_idx + 1
            for module in self._model.modules()
            if isinstance(getattr(module, "padding_idx", None), int)
            and isinstance(getattr(module, "position_embeddings", None), torch.nn.Embedding)
        ]
        return places - max(skipped, default=0)

    def states(self, batch: Batch, layers: tuple[int, ...]) -> torch.Tensor:
        last = (self.depth,)
        inputs: dict[str, Any] = {"input_ids": batch.ids, "output_hidden_states": layers != last}
        if not batch.full:
            inputs["attention_mask"] = batch.mask().long()
        if batch.types is not None:
            inputs["token_type_ids"] = batch.types
        outputs = self._model(**inputs)
        if layers == last:
            states: torch.Tensor = outputs.last_hidden_state
            return states
        chosen = [outputs.hidden_states[number] for number in layers]
        return chosen[0] if len(chosen) == 1 else torch.stack(chosen).float().mean(dim=0)

    def looks_back_only(self) -> bool:
        """Whether a token's vector is the same whatever comes behind it, as in a decoder: asked, not looked up."""
        ids = torch.tensor([[1, 2], [1, 3]], device=self.device)
        batch = Batch(ids, torch.tensor([2, 2], device=self.device))
        with torch.inference_mode():
            first = self.states(batch, (self.depth,))[:, 0].float()
        return bool(torch.allclose(first[0], first[1], rtol=1e-5, atol=1e-6))


def load_network(checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> TransformersNetwork:
    """The network of a checkpoint, its weights from safetensors or a pickle of nothing but tensors.

    Raises:
        ModelUnavailable: some of its weights are missing. And what transformers raises over damaged files.
    """
    from transformers import MODEL_FOR_TEXT_ENCODING_MAPPING, AutoConfig, AutoModel, AutoModelForTextEncoding

    config = AutoConfig.from_pretrained(checkpoint.network, local_files_only=True, trust_remote_code=False)
    # Of an encoder and a decoder in one (T5) the first is what reads, and often all that was saved.
    alone = MODEL_FOR_TEXT_ENCODING_MAPPING.get(type(config), None)
    family = AutoModel
    if alone is not None and alone.__name__.endswith("EncoderModel"):
        family = AutoModelForTextEncoding
    model, told = family.from_pretrained(
        checkpoint.network,
        config=config,
        dtype=dtype,
        local_files_only=True,
        trust_remote_code=False,
        output_loading_info=True,
    )
    missing = sorted(name for name in told["missing_keys"] if _UNUSED not in name)
    if missing:
        raise ModelUnavailable(
            f"{checkpoint.name} lacks {len(missing)} of its tensors, such as {missing[0]}; get its files again"
        )
    if family is AutoModel and getattr(config, "is_encoder_decoder", False):
        model = model.get_encoder()
    return TransformersNetwork(model.to(device))


def load_tokenizer(checkpoint: Checkpoint) -> Any:
    """The tokenizer of a checkpoint, with what transformers adds to it."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(checkpoint.network, local_files_only=True, trust_remote_code=False)


class ForeignModel:
    """All modules of a checkpoint by sentence-transformers itself, for those that nearkin does not know."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        from sentence_transformers import SentenceTransformer

        self._model: SentenceTransformer = SentenceTransformer(
            str(checkpoint.folder), device=str(device), trust_remote_code=False, local_files_only=True
        )
        self.tokenizer: Any = getattr(self._model[0], "tokenizer", None)
        network = getattr(self._model[0], "auto_model", None)
        if network is None or self.tokenizer is None:
            raise ModelUnavailable(
                f"{checkpoint.name} does not begin with a transformer for text; choose another model"
            )
        self._model.float().eval()
        self.network = TransformersNetwork(network)
        self.max_length: int | None = self._model.max_seq_length

    def to(self, dtype: torch.dtype) -> None:
        """Compute the transformer in this number format; what follows is cheap and stays in fp32."""
        self._model[0].to(dtype)
        self.network.dtype = dtype

    def __call__(self, batch: Batch, prompt_length: int, dim: int | None) -> torch.Tensor:
        """(rows, dim) float32 unit rows."""
        features: dict[str, Any] = {"input_ids": batch.ids, "attention_mask": batch.mask().long()}
        if batch.types is not None:
            features["token_type_ids"] = batch.types
        if prompt_length:
            features["prompt_length"] = prompt_length
        modules: Sequence[Any] = list(self._model.children())
        features = modules[0](features)
        features = {
            name: value.float() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
            for name, value in features.items()
        }
        for module in modules[1:]:
            features = module(features)
        vectors: torch.Tensor = features["sentence_embedding"]
        return functional.normalize(vectors[:, :dim].float(), dim=1)
