"""Pre-training: what BERT learns from texts alone, before anybody's labels.

Two tasks, as in BERT's paper. Masked-language modelling: guess the words that were hidden. Next-sentence prediction:
does the second half of a pair follow the first, or is it from another text? The encoder that learned this becomes the
classifier's; train.py's loop trains both.
"""

import copy
import json
import os
import random
import re
import shutil

import torch
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers import BertForPreTraining, BertModel, DataCollatorForLanguageModeling, DataCollatorWithPadding

from train import checkpoints
from train.errors import JobError
from train.options import BUNDLED
from train.outputs import draw
from train.record import RecordedPretraining
from train.reviews import make_pairs

IGNORED = -100  # what cross_entropy leaves out: words that were not masked, texts that are no pair
MOST_HELD_OUT = 500  # pairs to score with after each epoch
SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")


# --- texts ---------------------------------------------------------------------------------------------------------


def load_texts(settings, rows, held_out):
    """(texts to learn from, texts to score with), each text as (first half, second half or "")."""
    if settings.data == BUNDLED:
        apart = set(rows["text"]) | set(held_out["text"])
        pairs = make_pairs(settings.pretrain_rows + MOST_HELD_OUT, apart)
        return pairs[: settings.pretrain_rows], pairs[settings.pretrain_rows :]
    source = random.Random(settings.seed)
    texts = [cut(text, source) for text in rows["text"]]
    source.shuffle(texts)
    return texts[: settings.pretrain_rows], [cut(text, source) for text in held_out["text"][:MOST_HELD_OUT]]


def cut(text, source):
    """A text in two at the end of one of its sentences, which one is drawn; one that has one sentence has no second."""
    sentences = [part.strip() for part in SENTENCE_END.split(text) if part.strip()]
    if len(sentences) < 2:
        return text, ""
    place = 1 + int(source.random() * (len(sentences) - 1))
    return " ".join(sentences[:place]), " ".join(sentences[place:])


def make_examples(texts, source):
    """(first, second, label): 0 where the second half is the text's own, 1 where it is another text's."""
    pairs = [number for number, (_, second) in enumerate(texts) if second]
    examples = []
    for number, (first, second) in enumerate(texts):
        if not second or len(pairs) < 2:
            examples.append((first, second, IGNORED))
        elif source.random() < 0.5:
            examples.append((first, second, 0))
        else:
            other = number
            while other == number:
                other = pairs[int(source.random() * len(pairs))]
            examples.append((first, texts[other][1], 1))
    return examples


def encode(first, second, tokenizer, most):
    """[CLS] first [SEP] second [SEP] in at most so many tokens: of a long pair, those around the cut."""
    first, second = (
        tokenizer(text, add_special_tokens=False, truncation=False, verbose=False)["input_ids"]
        for text in (first, second)
    )
    room = most - 2 - bool(second)
    first = first[-max(room // 2, room - len(second)) :] if second else first[:room]
    second = second[: room - len(first)]
    ids = [tokenizer.cls_token_id, *first, tokenizer.sep_token_id]
    kinds = [0] * len(ids)
    if second:
        ids += [*second, tokenizer.sep_token_id]
        kinds += [1] * (len(second) + 1)
    return {"input_ids": ids, "token_type_ids": kinds, "attention_mask": [1] * len(ids)}


def tokenize(texts, tokenizer, settings):
    """Texts → a dataset as train.py's loop takes it; its labels are those of next-sentence prediction."""
    columns = {"input_ids": [], "token_type_ids": [], "attention_mask": [], "labels": []}
    for first, second, label in make_examples(texts, random.Random(settings.seed)):
        row = encode(first, second, tokenizer, settings.max_length)
        if settings.padding == "max":
            row = tokenizer.pad(row, padding="max_length", max_length=settings.max_length)
        for name, values in dict(row, labels=label).items():
            columns[name].append(values)
    data = Dataset.from_dict(columns)
    data.set_format("torch")
    return data


# --- model ---------------------------------------------------------------------------------------------------------


class MaskingBert(BertForPreTraining):
    """BERT with both heads. It masks what it is given, so that each epoch hides other words of a text.

    Masks are drawn here and not where batches are made: a run that goes on skips batches, and must draw the same masks.
    """

    def forward(self, labels, **inputs):
        words = inputs["input_ids"].cpu()  # the collator draws on the CPU
        special = torch.isin(words, torch.tensor(self.masking.tokenizer.all_special_ids))
        masked, hidden = self.masking.torch_mask_tokens(words.clone(), special_tokens_mask=special)
        hidden = hidden.to(labels.device)
        output = super().forward(**dict(inputs, input_ids=masked.to(labels.device)))
        output.loss = mean_loss(output.prediction_logits, hidden) + mean_loss(output.seq_relationship_logits, labels)
        output.right = {
            "masked_words": right(output.prediction_logits, hidden),
            "sentence_pairs": right(output.seq_relationship_logits, labels),
        }
        return output


def mean_loss(logits, labels):
    """The mean cross-entropy of what is not ignored; 0, and not NaN, where everything is, as in a very small batch."""
    total = torch.nn.functional.cross_entropy(
        logits.flatten(0, -2), labels.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    return total / (labels != IGNORED).sum().clamp(min=1)


def right(logits, labels):
    """For each label that is not ignored: was it guessed?"""
    asked = labels != IGNORED
    return logits.argmax(-1)[asked] == labels[asked]


def make_model(classifier, tokenizer, settings):
    """The classifier's encoder under two heads: a pretrained model's own, or new ones."""
    torch.manual_seed(settings.seed)
    bundled = settings.model == BUNDLED
    model = MaskingBert(classifier.config) if bundled else MaskingBert.from_pretrained(settings.model)
    model.bert.load_state_dict(classifier.bert.state_dict())
    model.masking = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
    return model


@torch.no_grad()
def score(model, data, device, tokenizer, batch):
    """{"masked_words", "sentence_pairs": share guessed right}; the same words are masked each time."""
    model.eval()
    guesses = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for rows in DataLoader(data, batch_size=batch, collate_fn=DataCollatorWithPadding(tokenizer)):
            output = model(**{name: value.to(device) for name, value in rows.items()})
            for name, values in output.right.items():
                guesses.setdefault(name, []).extend(values.tolist())
    return {name: sum(values) / len(values) for name, values in guesses.items() if values}


# --- the whole -----------------------------------------------------------------------------------------------------


def pretrain(classifier, tokenizer, parts, settings, *, team, say, train):
    """Pre-train the classifier's encoder, or take what OUTPUT/pretrained has of it; {"pretraining": figures}.

    `parts`: the rows to train on, and those held out. `train` is train.py's loop: that file is a program, and is not
    imported.
    """
    if not settings.pretrain:
        return {}
    if settings.parallel in ("model", "pipeline"):
        hint = "pre-train without it first, with --output DIR; then give --model DIR/pretrained"
        raise JobError("--pretrain and --parallel %s do not go together: it has two heads" % settings.parallel, hint)
    own = copy.copy(settings)
    own.epochs, own.output = settings.pretrain, settings.output and os.path.join(settings.output, "pretrained")
    own.compile = False  # what it masks is drawn in `forward`, which torch.compile would break there
    run = RecordedPretraining(own, lambda: score_together(run, team, tokenizer, own), say)
    measured = team.tell(before_now(own, run.same()) if team.leads else None)
    if measured:
        say("the pre-training is done: %s" % own.output)
        encoder = BertModel.from_pretrained(own.output)
    else:
        texts, others = load_texts(own, *parts)
        run.held_out = tokenize(others, tokenizer, own)
        say(announcement(texts))
        model, data = make_model(classifier, tokenizer, own), tokenize(texts, tokenizer, own)
        losses = train(model, data, own, team.device, tokenizer=tokenizer, run=run, team=team)
        run.close()
        measured = dict(run.epochs[-1], loss=sum(losses[-10:]) / len(losses[-10:]), steps=len(losses), texts=len(texts))
        measured.update(losses=[round(loss, 5) for loss in losses], seconds=round(run.seconds(), 2))
        encoder = getattr(team.gather(), "bert", None)
        if own.output and team.leads:
            finish(own.output, encoder, tokenizer, {"same": run.same(), "measured": measured})
    state = {name: value.cpu() for name, value in encoder.state_dict().items()} if team.leads else None
    classifier.bert.load_state_dict(team.tell(state))
    torch.manual_seed(settings.seed)  # the fine-tune draws the same whether the pre-training was done now or before
    return {"pretraining": measured}


def score_together(run, team, tokenizer, settings):
    """The scores after an epoch, on all processes."""
    whole = team.gather()
    return team.tell(score(whole, run.held_out, team.device, tokenizer, 4 * settings.batch) if team.leads else None)


def before_now(own, same):
    """What an ended pre-training in OUTPUT/pretrained measured; what is there of another run goes, without --resume."""
    if own.output and not own.resume:
        shutil.rmtree(own.output, ignore_errors=True)
    if own.output:
        os.makedirs(own.output, exist_ok=True)
    return finished(own.output, same)


def announcement(texts):
    pairs = sum(bool(second) for _, second in texts)
    if pairs < 2:
        return "pre-training on %d texts of one sentence: masked words alone, no next-sentence prediction" % len(texts)
    return "pre-training on %d texts, %d of them in two halves for next-sentence prediction" % (len(texts), pairs)


def finished(folder, same):
    """What an ended pre-training measured; None where there is none. Raises for one with other settings."""
    path = os.path.join(folder or "", "pretraining.json")
    if not folder or not os.path.exists(path):
        return None
    with open(path, encoding="utf-8") as stream:
        document = json.load(stream)
    checkpoints.check_same(folder, document["same"], same)
    return document["measured"]


def finish(folder, encoder, tokenizer, document):
    """The encoder as a model that `train --model` takes; its checkpoints go. The document says that all is there."""
    draw(folder)
    encoder.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    for name in os.listdir(folder):
        checkpoints.sync(os.path.join(folder, name))
    fresh = os.path.join(folder, ".pretraining.json")
    with open(fresh, "w", encoding="utf-8") as stream:
        json.dump(document, stream, indent=1)
    checkpoints.sync(fresh)
    os.replace(fresh, os.path.join(folder, "pretraining.json"))
    for number in checkpoints.numbers(folder):
        shutil.rmtree(os.path.join(folder, "checkpoint-%d" % number))
