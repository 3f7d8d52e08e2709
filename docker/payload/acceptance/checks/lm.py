"""Does a causal model compute, learn and generate right, and does LoRA?

First what holds for any weights, on a small model with large random ones; then what the job of causal_lm/ has learned.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable

from acceptance.checks.inspection import LIBRARIES, Answer, Failure, Skipped
from acceptance.checks.numerics import relative_difference
from acceptance.checks.training import describe, use_one_thread

if TYPE_CHECKING:
    from acceptance.checks.inspection import Inspection

WRONG_VERSION = "another version of transformers or torch may be right: see `envbuilder resolve --explain`"
WRONG_PEFT = "another version of peft may be right"
NO_PEFT = "peft is not in this image"
# Large weights: attention is then far from uniform, and what is wrong with it shows.
LARGE = 0.3


def lm_check(check: Callable[[Inspection], Answer]) -> Callable[[Inspection], Answer]:
    """Decorate a check of the causal model: where the libraries break, the check has failed."""

    @functools.wraps(check)
    def wrapper(inspection: Inspection) -> Answer:
        use_one_thread()
        try:
            return check(inspection)
        except (Failure, Skipped):
            raise
        except Exception as error:
            if isinstance(error, ModuleNotFoundError) and error.name in LIBRARIES:
                raise  # no evidence against the image
            raise Failure(
                f"the causal model broke: {describe(error)}", remedy=WRONG_VERSION
            ) from error

    return wrapper


def choose_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


# --- what holds for any weights ------------------------------------------------------------------------------------


def trained_tokenizer() -> Any:
    """A tokenizer trained on sentences of the task."""
    from acceptance.causal_lm.decoder import make_tokenizer
    from acceptance.causal_lm.learning import training_sentences
    from acceptance.causal_lm.sentences import copy, text

    texts = [text(sentence, copy(sentence)) for sentence in training_sentences(64)]
    return make_tokenizer(texts)


def random_model(tokenizer: Any) -> Any:
    from acceptance.causal_lm.decoder import make_model

    return make_model(tokenizer, choose_device(), initializer_range=LARGE)


def random_tokens(tokenizer: Any, rows: int, length: int, device: Any) -> Any:
    """Ids of ordinary tokens, of shape (rows, length)."""
    import torch

    from acceptance.causal_lm.sentences import SPECIAL

    generator = torch.Generator().manual_seed(3)
    return torch.randint(
        len(SPECIAL), len(tokenizer), (rows, length), generator=generator
    ).to(device)


@lm_check
def check_tokenizer(inspection: Inspection) -> Answer:
    """Each word is one token, and what is read is what was written; the value counts words and texts that are not."""
    from acceptance.causal_lm.learning import held_out_sentences
    from acceptance.causal_lm.sentences import PAD, WORDS, prompt

    tokenizer = trained_tokenizer()
    wrong = [word for word in WORDS if len(tokenizer(word)["input_ids"]) != 1]
    for sentence in held_out_sentences():
        line = prompt(sentence)
        ids = tokenizer(line)["input_ids"]
        if tokenizer.decode(ids).split() != line.split():
            wrong.append(line)
    both = tokenizer([WORDS[0], f"{WORDS[0]} {WORDS[1]}"], padding=True)
    if tokenizer.decode(both["input_ids"][0]).split() != [PAD, WORDS[0]]:
        wrong.append("a padded text")
    return inspection.require(
        "lm.tokenizer",
        len(wrong),
        detail=f"the trained tokenizer does not read back {', '.join(wrong[:1])}",
        remedy="another version of tokenizers or transformers may be right",
    )


@lm_check
def check_causal(inspection: Inspection) -> Answer:
    """Logits before a place are exactly the same whatever follows."""
    import torch

    tokenizer = trained_tokenizer()
    model = random_model(tokenizer)
    place = 6
    tokens = random_tokens(tokenizer, 4, 2 * place, model.device)
    others = tokens.clone()
    others[:, place:] = tokens[:, place:].flip(0)
    with torch.no_grad():
        logits = model(input_ids=tokens).logits
        other_logits = model(input_ids=others).logits
    difference = (logits - other_logits)[:, :place].abs().max().item()
    return inspection.require(
        "lm.causal",
        difference,
        detail="the causal mask leaks: a later token changes earlier logits",
        remedy=WRONG_VERSION,
    )


@lm_check
def check_padding(inspection: Inspection) -> Answer:
    """Padding on the left changes no logit of the tokens after it."""
    import torch

    tokenizer = trained_tokenizer()
    model = random_model(tokenizer)
    length, padding = 7, 5
    bare = random_tokens(tokenizer, 1, length, model.device)
    pads = torch.full((1, padding), tokenizer.pad_token_id, device=model.device)
    padded = torch.cat([pads, bare], 1)
    # Next to it a row without padding, as in a batch.
    rows = torch.cat(
        [padded, random_tokens(tokenizer, 1, length + padding, model.device)]
    )
    mask = torch.ones_like(rows)
    mask[0, :padding] = 0
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        expected = model(input_ids=bare).logits[0]
        seen = model(
            input_ids=rows, attention_mask=mask, position_ids=positions
        ).logits[0, padding:]
    return inspection.require(
        "lm.padding",
        relative_difference(seen, expected),
        detail="padding on the left changes logits: the attention mask is not used",
        remedy=WRONG_VERSION,
    )


@lm_check
def check_loss(inspection: Inspection) -> Answer:
    """The model's loss against -log p of each next token, written down once more."""
    import torch

    from acceptance.causal_lm.learning import IGNORED, next_token_loss

    tokenizer = trained_tokenizer()
    model = random_model(tokenizer)
    tokens = random_tokens(tokenizer, 4, 12, model.device)
    labels = tokens.clone()
    labels[:, :4] = IGNORED
    with torch.no_grad():
        output = model(input_ids=tokens, labels=labels)
    loss = output.loss.item()
    expected = next_token_loss(output.logits, labels)
    return inspection.require(
        "lm.next_token",
        abs(loss - expected) / expected,
        detail=f"the loss is {loss:.4g}, that of the next token {expected:.4g}: labels are shifted wrongly",
        remedy=WRONG_VERSION,
    )


@lm_check
def check_cache(inspection: Inspection) -> Answer:
    """Token by token with a KV cache, after four at once, the logits are those of the whole row."""
    import torch

    tokenizer = trained_tokenizer()
    model = random_model(tokenizer)
    tokens = random_tokens(tokenizer, 2, 12, model.device)
    with torch.no_grad():
        expected = model(input_ids=tokens, use_cache=False).logits
        seen = cached_logits(model, tokens, first=4)
    return inspection.require(
        "lm.cache",
        relative_difference(seen, expected),
        detail="the KV cache changes logits: positions or keys are off",
        remedy=WRONG_VERSION,
    )


def cached_logits(model: Any, tokens: Any, *, first: int) -> Any:
    """The logits of all tokens: of the `first` ones at once, then of one after the other, each with the cache."""
    import torch

    # transformers 5 has another name for it.
    parameters = inspect.signature(model.forward).parameters
    name = "cache" if "cache" in parameters else "past_key_values"
    output = model(input_ids=tokens[:, :first], use_cache=True)
    logits = [output.logits]
    for place in range(first, tokens.shape[1]):
        cache = {name: getattr(output, name)}
        token = tokens[:, place : place + 1]
        output = model(input_ids=token, use_cache=True, **cache)
        logits.append(output.logits)
    return torch.cat(logits, 1)


# --- what the whole model learns -----------------------------------------------------------------------------------


@dataclass
class Decoder:
    """The model that has learned to copy, with its tokenizer."""

    model: Any
    tokenizer: Any


def learned(inspection: Inspection) -> Decoder:
    """The trained model; the job runs once for all the checks that look at it."""
    job = inspection.lm
    if job.result is None and job.error is None:
        # Holds if a deadline ends the job: it is not started again for the next check.
        job.error = "it did not end in time"
        try:
            learn_to_copy(inspection)
        except Exception as error:
            job.error = describe(error)
            raise
        job.error = None
    if job.error is not None:
        raise Failure(f"the causal model broke: {job.error}", remedy=WRONG_VERSION)
    decoder: Decoder = job.result
    return decoder


def learn_to_copy(inspection: Inspection) -> None:
    from acceptance.causal_lm import decoder
    from acceptance.causal_lm.learning import COPYING, learn

    started = time.process_time()
    tokenizer = trained_tokenizer()
    model = decoder.make_model(tokenizer, choose_device(), initializer_range=0.05)
    result = learn(model, tokenizer, COPYING, on_step=progress(inspection))
    inspection.lm.processor_seconds = time.process_time() - started
    inspection.lm.figures = {
        "architecture": decoder.architecture(),
        "device": str(model.device),
        "parameters": sum(one.numel() for one in model.parameters()),
        "accuracy": result.accuracy,
        "loss": result.loss,
        "losses": list(result.losses),
        "steps": len(result.losses),
        "seconds": round(inspection.lm.processor_seconds, 2),
    }
    inspection.lm.result = Decoder(model, tokenizer)


def progress(inspection: Inspection) -> Callable[[int, int, float], None]:
    def on_step(step: int, steps: int, loss: float) -> None:
        if step % 10 == 0 or step == steps:
            inspection.on_progress(step, steps, f"loss {loss:.3f}")

    return on_step


@lm_check
def check_accuracy(inspection: Inspection) -> Answer:
    from acceptance.causal_lm.decoder import LLAMA
    from acceptance.causal_lm.sentences import WORDS

    learned(inspection)
    figures = inspection.lm.figures
    findings = []
    if figures["architecture"] != LLAMA:
        findings.append("this transformers has no Llama: GPT-2 learned instead")
    return inspection.require(
        "lm.accuracy",
        figures["accuracy"],
        detail=f"it did not learn to copy; without attention it would get one word in {len(WORDS)} right",
        remedy=WRONG_VERSION,
        findings=findings,
    )


@lm_check
def check_held_out_loss(inspection: Inspection) -> Answer:
    """Nats for each word: far below what is possible without attention (sentences.py says why)."""
    from acceptance.causal_lm.sentences import ENTROPY

    learned(inspection)
    return inspection.require(
        "lm.loss",
        inspection.lm.figures["loss"],
        detail=f"it is not sure of what it copies; without attention the least loss is {ENTROPY:.3f}",
        remedy=WRONG_VERSION,
    )


@lm_check
def check_generation(inspection: Inspection) -> Answer:
    """Greedy generation twice, and each prompt alone; the prompts of a batch differ in length."""
    from acceptance.causal_lm.learning import complete, held_out_sentences
    from acceptance.causal_lm.sentences import prompt

    decoder = learned(inspection)
    prompts = []
    for given, sentence in enumerate(held_out_sentences()[:6]):
        prompts.append(prompt(sentence, sentence[:given]))
    first = complete(decoder.model, decoder.tokenizer, prompts)
    second = complete(decoder.model, decoder.tokenizer, prompts)
    different = 0
    for line, answer, again in zip(prompts, first, second):
        alone = complete(decoder.model, decoder.tokenizer, [line])[0]
        different += not answer == again == alone
    return inspection.require(
        "lm.generation",
        different,
        detail=f"greedy generation differs for {different} of {len(prompts)} prompts: twice, or alone and in a batch",
        remedy=WRONG_VERSION,
    )


# --- LoRA ----------------------------------------------------------------------------------------------------------


def adapted(inspection: Inspection) -> dict[str, Any]:
    """What LoRA made of the model that has learned to copy; it runs once for all the checks that look at it."""
    if importlib.util.find_spec("peft") is None:
        raise Skipped(NO_PEFT)
    job = inspection.lora
    if not job.figures and job.error is None:
        decoder = learned(inspection)
        job.error = "it did not end in time"
        try:
            learn_to_translate(decoder, inspection)
        except Exception as error:
            job.error = describe(error)
            raise
        job.error = None
    if job.error is not None:
        raise Failure(f"LoRA broke: {job.error}", remedy=WRONG_PEFT)
    return job.figures


def learn_to_translate(decoder: Decoder, inspection: Inspection) -> None:
    """Train an adapter, then compare the model without it, with it, and with it merged. The model is used up."""
    import copy

    from acceptance.causal_lm.decoder import add_lora
    from acceptance.causal_lm.learning import TRANSLATING, learn

    started = time.process_time()
    before = logits_of(decoder.model, decoder.tokenizer)
    # A check that comes later may want the model as it is.
    model = add_lora(copy.deepcopy(decoder.model))
    result = learn(model, decoder.tokenizer, TRANSLATING, on_step=progress(inspection))
    inspection.lora.processor_seconds = time.process_time() - started
    changed = weight_difference(model, decoder.model)
    on = logits_of(model, decoder.tokenizer)
    with model.disable_adapter():
        off = logits_of(model, decoder.tokenizer)
    on_again = logits_of(model, decoder.tokenizer)
    trainable = sum(one.numel() for one in model.parameters() if one.requires_grad)
    merged = logits_of(model.merge_and_unload(), decoder.tokenizer)
    inspection.lora.figures = {
        "accuracy": result.accuracy,
        "loss": result.loss,
        "changed": changed,
        "off": largest_difference(off, before),
        "on_again": largest_difference(on_again, on),
        "merged": relative_difference(merged, on),
    }
    inspection.lm.figures.update(
        lora_accuracy=result.accuracy,
        lora_loss=result.loss,
        lora_losses=list(result.losses),
        lora_steps=len(result.losses),
        lora_parameters=trainable,
        lora_seconds=round(inspection.lora.processor_seconds, 2),
    )


def logits_of(model: Any, tokenizer: Any) -> Any:
    """The logits of eight held-out sentences."""
    import torch

    from acceptance.causal_lm.learning import encode, held_out_sentences
    from acceptance.causal_lm.sentences import copy

    batch = encode(tokenizer, held_out_sentences()[:8], copy, model.device)
    del batch["labels"]
    with torch.no_grad():
        return model(**batch).logits


def weight_difference(model: Any, base: Any) -> float:
    """How far the weights below an adapter are from those it was put on."""
    weights = [
        weight for name, weight in model.named_parameters() if "lora_" not in name
    ]
    differences = [
        largest_difference(weight, expected)
        for weight, expected in zip(weights, base.parameters())
    ]
    return max(differences)


def largest_difference(seen: Any, expected: Any) -> float:
    difference: float = (seen - expected).abs().max().item()
    return difference


@lm_check
def check_lora(inspection: Inspection) -> Answer:
    from acceptance.causal_lm.sentences import WORDS

    return inspection.require(
        "lm.lora",
        adapted(inspection)["accuracy"],
        detail=f"LoRA did not learn to translate; without attention it would get one word in {len(WORDS)} right",
        remedy=WRONG_PEFT,
    )


@lm_check
def check_adapter(inspection: Inspection) -> Answer:
    """With the adapter off, the model is exactly what it was; on again, exactly what the adapter made of it."""
    figures = adapted(inspection)
    problems = {
        "changed": "training the adapter changed the model below it",
        "off": "with the adapter off, the model is not what it was before",
        "on_again": "with the adapter on again, the model is not what it was before",
    }
    worst = max(problems, key=lambda name: figures[name])
    return inspection.require(
        "lm.adapter",
        figures[worst],
        detail=problems[worst],
        remedy=WRONG_PEFT,
    )


@lm_check
def check_merged(inspection: Inspection) -> Answer:
    return inspection.require(
        "lm.merged",
        adapted(inspection)["merged"],
        detail="merging the adapter into the weights changes logits",
        remedy=WRONG_PEFT,
    )


@lm_check
def check_seconds(inspection: Inspection) -> Answer:
    """Seconds of its one thread, LoRA included: on a busy machine the clock runs on while others work."""
    learned(inspection)
    seconds = inspection.lm.processor_seconds + inspection.lora.processor_seconds
    return inspection.require(
        "lm.seconds",
        round(seconds, 2),
        detail="the small model takes too long",
        remedy="check whether this is a slow build of torch or a slow processor",
        unit="s",
    )
