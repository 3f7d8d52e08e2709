"""Small models with random weights and tokenizers trained in place: `python tiny_models.py DIR`; runs in an image.

`DIR/bert` is an encoder of a few thousand parameters, `DIR/llama` a decoder. Both know every character of the texts
that the tests of `finetune` use, Chinese ones too.
"""

import sys
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    set_seed,
)

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = (
    "good great fine lovely bad awful dull weak film plot music cast the a was is and not very Anna Bob Paris Rome "
    "lives in works at red blue green one two three what colour number is say answer : ? . , # Question Answer yes no"
).split()
CHINESE = "这部电影很好看糟糕难剧情音乐演员不非常喜欢讨厌精彩无聊推荐失望极了的太我"
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def vocabulary() -> dict:
    pieces = [*SPECIAL, *WORDS, *CHINESE, *LETTERS]
    pieces += [f"##{letter}" for letter in LETTERS]
    return {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}


def save_bert(folder: Path) -> None:
    words = vocabulary()
    tokenizer = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [("[CLS]", words["[CLS]"]), ("[SEP]", words["[SEP]"])]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=ends,
    )
    wrap(
        tokenizer,
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    ).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        max_position_embeddings=64,
    )
    BertForMaskedLM(config).save_pretrained(folder)


def save_llama(folder: Path) -> None:
    words = vocabulary()
    tokenizer = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    wrap(tokenizer, unk_token="[UNK]", eos_token="[SEP]").save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=128,
        max_position_embeddings=128,
        pad_token_id=words["[PAD]"],
        bos_token_id=words["[CLS]"],
        eos_token_id=words["[SEP]"],
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def wrap(tokenizer: Tokenizer, **special: str) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", model_max_length=64, **special
    )


if __name__ == "__main__":
    set_seed(0)
    save_bert(Path(sys.argv[1], "bert"))
    save_llama(Path(sys.argv[1], "llama"))
