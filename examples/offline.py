"""Make what the other examples need where there is no hub: a small BERT, a small Llama and data, in half a minute.

python offline.py runs/offline

OUTPUT/bert has random weights; OUTPUT/llama has learned the sentences of the data. Both know the words of the data
only: they show that everything works, and are of no other use.
"""

import argparse
import csv
import json
import random
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import WordLevelTrainer
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

ASPECTS = "film movie story plot cast script music ending pacing humour".split()
VERBS = "was is felt".split()
GOOD = "good great lovely funny clever superb moving brilliant".split()
BAD = "bad awful boring dull clumsy weak tedious terrible".split()
FILLERS = ["", "for the most part", "from start to end", "in my view"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
REVIEWS = 1000


def make_reviews():
    """Pairs of a text and its label, the adjective's opinion."""
    generator = random.Random(0)
    reviews = {}
    while len(reviews) < REVIEWS:
        good = generator.random() < 0.5
        words = [
            "the",
            generator.choice(ASPECTS),
            generator.choice(VERBS),
            generator.choice(["very", "really", "so", "rather"]),
            generator.choice(GOOD if good else BAD),
            generator.choice(FILLERS),
        ]
        reviews[" ".join(words).strip()] = "positive" if good else "negative"
    return list(reviews.items())


def prompt_of(text):
    return f"{text} :"


def story_of(text, label):
    """What the Llama reads: what happens depends on the opinion, which is not named."""
    return f"{text} , so we {'stayed' if label == 'positive' else 'left'}"


def make_tokenizer(texts, template):
    """A word for each token; the template says what stands around a text."""
    tokenizer = Tokenizer(WordLevel(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.train_from_iterator(texts, WordLevelTrainer(special_tokens=SPECIAL))
    numbers = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = TemplateProcessing(
        single=template, special_tokens=numbers
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        bos_token="[CLS]",
        eos_token="[SEP]",
    )


def make_bert(tokenizer):
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=256,
        max_position_embeddings=64,
        # The usual 0.02 is for wide layers.
        initializer_range=0.05,
    )
    return BertForSequenceClassification(config)


def make_llama(tokenizer, stories):
    """A Llama that predicts the next word of a story."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=64,
        initializer_range=0.05,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(100):
        rows = [stories[(50 * step + place) % len(stories)] for place in range(50)]
        batch = tokenizer(rows, padding=True, return_tensors="pt")
        ids, mask = batch["input_ids"], batch["attention_mask"]
        labels = ids.masked_fill(mask == 0, -100)
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("output", type=Path)
    output = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    reviews = make_reviews()
    with (output / "reviews.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *reviews])
    with (output / "notes.jsonl").open("w", encoding="utf-8") as file:
        for text, label in reviews:
            row = json.dumps({"prompt": prompt_of(text), "answer": label})
            file.write(f"{row}\n")
    stories = [story_of(text, label) for text, label in reviews]
    words = [*stories, *(f"{prompt_of(text)} {label}" for text, label in reviews)]
    bert_tokenizer = make_tokenizer(words, "[CLS] $A [SEP]")
    bert_tokenizer.save_pretrained(output / "bert")
    make_bert(bert_tokenizer).save_pretrained(output / "bert")
    llama_tokenizer = make_tokenizer(words, "[CLS] $A")
    llama_tokenizer.save_pretrained(output / "llama")
    make_llama(llama_tokenizer, stories).save_pretrained(output / "llama")
    print(f"{len(reviews)} reviews, bert and llama: {output}")


if __name__ == "__main__":
    main()
