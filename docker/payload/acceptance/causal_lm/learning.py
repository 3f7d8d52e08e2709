"""Training the model, or an adapter on it, and what it has learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Iterator, Sequence

from acceptance.causal_lm.sentences import (
    LENGTH,
    Sentence,
    copy,
    draw_sentences,
    prompt,
    text,
    translate,
)

BATCH_SIZE = 64
HELD_OUT = 128  # sentences
WARM_UP = 10  # steps
IGNORED = -100  # the label of a token that is not learned
TRAIN_SEED, TEST_SEED = 1, 2

Answer = Callable[[Sentence], Sentence]  # `copy` or `translate`
OnStep = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Plan:
    """How long a model learns, and how fast."""

    answer: Answer
    steps: int
    learning_rate: float


COPYING = Plan(answer=copy, steps=100, learning_rate=5e-3)
TRANSLATING = Plan(answer=translate, steps=60, learning_rate=1e-2)


@dataclass(frozen=True)
class Learned:
    """What a model can do after its training, on sentences that were held out."""

    losses: Sequence[float]  # of each step
    loss: float  # nats for each word of an answer
    accuracy: float  # share of the words that it writes as they should be


def held_out_sentences() -> list[Sentence]:
    return draw_sentences(HELD_OUT, TEST_SEED)


def training_sentences(count: int) -> list[Sentence]:
    """`count` sentences, none of which is held out."""
    excluded = {tuple(sentence) for sentence in held_out_sentences()}
    sentences = []
    for sentence in draw_sentences(count, TRAIN_SEED):
        if tuple(sentence) not in excluded:
            sentences.append(sentence)
    return sentences


def learn(model: Any, tokenizer: Any, plan: Plan, on_step: OnStep) -> Learned:
    """Train what can be trained of the model; the learning rate rises for ten steps and then falls to nothing."""
    import torch

    parameters = [one for one in model.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=plan.learning_rate, weight_decay=0.0)
    losses = []
    model.train()
    for step, batch in enumerate(batches(tokenizer, plan, model.device), 1):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(plan, step)
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        on_step(step, plan.steps, losses[-1])
    model.eval()
    return Learned(
        losses=losses,
        loss=held_out_loss(model, tokenizer, plan.answer),
        accuracy=held_out_accuracy(model, tokenizer, plan.answer),
    )


def learning_rate(plan: Plan, step: int) -> float:
    """Of a step, counted from 1."""
    rising = step / WARM_UP
    falling = (plan.steps - step + 1) / (plan.steps - WARM_UP)
    return plan.learning_rate * min(1.0, rising, falling)


def batches(tokenizer: Any, plan: Plan, device: Any) -> Iterator[dict[str, Any]]:
    sentences = training_sentences(plan.steps * BATCH_SIZE)
    for step in range(plan.steps):
        start = step * BATCH_SIZE
        rows = sentences[start : start + BATCH_SIZE]
        yield encode(tokenizer, rows, plan.answer, device)


def encode(
    tokenizer: Any, sentences: Sequence[Sentence], answer: Answer, device: Any
) -> dict[str, Any]:
    """Sentences with their answers → input_ids, attention_mask and labels, all of shape (sentences, tokens).

    Only the answer is learned: what comes before it is random.
    """
    texts = [text(sentence, answer(sentence)) for sentence in sentences]
    batch = tokenizer(texts, return_tensors="pt")
    labels = batch["input_ids"].clone()
    # `<s>`, the words, and `=`.
    labels[:, : LENGTH + 2] = IGNORED
    fields = {
        "input_ids": batch["input_ids"],
        "attention_mask": batch["attention_mask"],
        "labels": labels,
    }
    return {name: value.to(device) for name, value in fields.items()}


def held_out_loss(model: Any, tokenizer: Any, answer: Answer) -> float:
    """Nats for each word of an answer, by the formula: transformers' own loss is judged by a check."""
    import torch

    batch = encode(tokenizer, held_out_sentences(), answer, model.device)
    labels = batch.pop("labels")
    # That a sentence ends after the eighth word can be learned without attention.
    labels[:, -1] = IGNORED
    with torch.no_grad():
        logits = model(**batch).logits
    return next_token_loss(logits, labels)


def next_token_loss(logits: Any, labels: Any) -> float:
    """The mean of -log p of each label, predicted by the logits one place before it; in float64."""
    chances = logits.double()[:, :-1].log_softmax(-1)
    following = labels[:, 1:]
    counted = following != IGNORED
    places = following.clamp(min=0)
    picked = chances.gather(-1, places[..., None])[..., 0]
    loss: float = -picked[counted].mean().item()
    return loss


def held_out_accuracy(model: Any, tokenizer: Any, answer: Answer) -> float:
    """The share of the words of held-out answers that greedy generation writes as they should be."""
    sentences = held_out_sentences()
    prompts = [prompt(sentence) for sentence in sentences]
    answers = complete(model, tokenizer, prompts)
    right = 0
    for sentence, words in zip(sentences, answers):
        for word, expected in zip(words, answer(sentence)):
            right += word == expected
    return right / (len(sentences) * LENGTH)


def complete(model: Any, tokenizer: Any, prompts: Sequence[str]) -> list[Sentence]:
    """The words that greedy generation writes after each prompt, up to the end of the sentence."""
    import torch

    batch = tokenizer(list(prompts), return_tensors="pt", padding=True)
    length = batch["input_ids"].shape[1]
    with torch.no_grad():
        rows = model.generate(
            input_ids=batch["input_ids"].to(model.device),
            attention_mask=batch["attention_mask"].to(model.device),
            max_new_tokens=LENGTH + 1,
            do_sample=False,
            num_beams=1,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    answers = []
    for row in rows[:, length:].tolist():
        if tokenizer.eos_token_id in row:
            row = row[: row.index(tokenizer.eos_token_id)]  # noqa: PLW2901
        answers.append(tokenizer.decode(row).split())
    return answers
