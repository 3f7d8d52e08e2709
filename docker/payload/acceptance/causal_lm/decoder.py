"""The tokenizer, trained here; a small Llama (GPT-2 where transformers has none); and LoRA on it."""

from __future__ import annotations

import importlib
from typing import Any, Sequence

from acceptance.causal_lm.sentences import END, PAD, SPECIAL, START, UNKNOWN

SEED = 7
WIDTH = 64
LAYERS = 2
HEADS = 4
RANK = 8

LLAMA = "llama"
GPT2 = "gpt2"
# What of each model gets an adapter: every linear layer of a block.
ADAPTED = {
    LLAMA: (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    ),
    GPT2: ("c_attn", "c_proj", "c_fc"),
}


def make_tokenizer(texts: Sequence[str]) -> Any:
    """A BPE tokenizer trained on the texts until each word is one token; it pads on the left, as generation needs."""
    from tokenizers import Tokenizer
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from tokenizers.trainers import BpeTrainer
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(BPE(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    trainer = BpeTrainer(
        vocab_size=256,
        special_tokens=list(SPECIAL),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=START,
        eos_token=END,
        unk_token=UNKNOWN,
        padding_side="left",
    )


def architecture() -> str:
    """Llama came with transformers 4.28; before it, GPT-2 takes its place."""
    transformers = importlib.import_module("transformers")
    return LLAMA if hasattr(transformers, "LlamaForCausalLM") else GPT2


def make_model(tokenizer: Any, device: str, *, initializer_range: float) -> Any:
    """The model, its weights drawn from the seed, in float32."""
    import torch

    torch.manual_seed(SEED)
    if architecture() == LLAMA:
        model = make_llama(tokenizer, initializer_range)
    else:
        model = make_gpt2(tokenizer, initializer_range)
    return model.to(device).eval()


def make_llama(tokenizer: Any, initializer_range: float) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        **token_settings(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        # Two heads share a key; of old versions, which have no such thing, it is ignored.
        num_key_value_heads=HEADS // 2,
        max_position_embeddings=64,
        initializer_range=initializer_range,
    )
    return LlamaForCausalLM(config)


def make_gpt2(tokenizer: Any, initializer_range: float) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        **token_settings(tokenizer),
        n_embd=WIDTH,
        n_layer=LAYERS,
        n_head=HEADS,
        n_positions=64,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        initializer_range=initializer_range,
    )
    return GPT2LMHeadModel(config)


def token_settings(tokenizer: Any) -> dict[str, int]:
    return {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }


def add_lora(model: Any) -> Any:
    """The model with LoRA on each linear layer of its blocks (Hu et al., 2021); only the adapter can be trained."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(SEED)
    kind = architecture()
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=RANK,
        # Twice the rank: a merge that forgets the scale of two is another model.
        lora_alpha=2 * RANK,
        lora_dropout=0.0,
        target_modules=list(ADAPTED[kind]),
        fan_in_fan_out=kind == GPT2,
    )
    return get_peft_model(model, config)
