"""Fine-tune BERT to tell texts apart. Read it from top to bottom: data, tokenizer, model, loop, evaluation, in the
order in which they are needed. Beside it: options.py (the knobs), data.py (where texts come from), pretrain.py,
parallel.py (several processes or devices), compiling.py, record.py (scores, checkpoints), outputs.py (picture, page).

    train                                                     the bundled reviews, in seconds, without a network
    train --model bert-base-uncased --data imdb --output runs/imdb      the guide's job
    torchrun --nproc-per-node 2 --no-python train …                     in two processes
"""

import atexit
import copy
import io
import json
import os
import resource
import sys
import tempfile
import warnings
from contextlib import nullcontext
from functools import partial

from train import hub
from train.interrupts import STOP
from train.options import BUNDLED, parse_settings  # noqa: F401

hub.set_environment()  # before the libraries below are imported

import torch  # noqa: E402
from datasets import disable_progress_bar  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402
from torchmetrics.functional.classification import multiclass_accuracy  # noqa: E402
from tqdm import tqdm  # noqa: E402
from transformers import (  # noqa: E402
    AutoConfig,
    BertConfig,
    BertForSequenceClassification,
    BertTokenizer,
    DataCollatorWithPadding,
    get_linear_schedule_with_warmup,
)

from train.compiling import compile_model, failed_to_compile, padding_step  # noqa: E402
from train.data import hint_for, is_path, load_data, reason  # noqa: E402
from train.errors import JobError  # noqa: E402
from train.outputs import draw, write_page  # noqa: E402
from train.parallel import Alone, make_team  # noqa: E402
from train.pretrain import pretrain  # noqa: E402
from train.record import Recorded, Run  # noqa: E402
from train.reviews import vocabulary  # noqa: E402

if not sys.stderr.isatty():
    disable_progress_bar()


# --- tokenizer and data --------------------------------------------------------------------------------------------


def make_tokenizer(words=None):
    """A BERT tokenizer that knows the bundled reviews' words."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "vocab.txt")
        with open(path, "w", encoding="utf-8") as stream:
            stream.write("".join(word + "\n" for word in words or vocabulary()))
        return BertTokenizer(path)  # the first argument: transformers 5 ignores `vocab_file=` without a word


def tokenize(data, tokenizer, settings):
    """Texts → input_ids, attention_mask and labels, with --padding max all of --max-length."""
    padding = "max_length" if settings.padding == "max" else False

    def encode(rows):
        return tokenizer(rows["text"], padding=padding, truncation=True, max_length=settings.max_length)

    data = data.map(encode, batched=True, load_from_cache_file=False, desc="tokenizing")
    if settings.model == BUNDLED:
        unknown = sum(ids.count(tokenizer.unk_token_id) for ids in data["input_ids"])
        if unknown:
            raise ValueError("the tokenizer does not know %d of the reviews' words" % unknown)
    data = data.rename_column("label", "labels")
    data.set_format("torch", columns=["input_ids", "attention_mask", "labels"])
    return data


def plan_batches(lengths, settings, order):
    """The numbers of the rows in each batch of an epoch, as the generator `order` draws them.

    With --padding longest, texts of similar length go together: little padding, and every text once an epoch. Sorted
    within pools of fifty batches, as transformers' LengthGroupedSampler does.
    """
    size, pool = settings.batch, settings.batch * 50
    rows = torch.randperm(len(lengths), generator=order).tolist()
    if settings.padding == "longest":
        pools = (rows[start : start + pool] for start in range(0, len(rows), pool))
        rows = [row for part in pools for row in sorted(part, key=lambda number: lengths[number])]
    batches = [rows[start : start + size] for start in range(0, len(rows), size)]
    if settings.padding == "longest":
        batches = [batches[number] for number in torch.randperm(len(batches), generator=order).tolist()]
    return batches


# --- model ---------------------------------------------------------------------------------------------------------


def make_model(settings, words):
    """A small BERT with a classifier on top, weights drawn from the seed."""
    torch.manual_seed(settings.seed)
    config = BertConfig(
        **dropout(settings),
        vocab_size=words,
        hidden_size=settings.hidden,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        intermediate_size=settings.hidden * 4,
        max_position_embeddings=max(64, settings.max_length),
        num_labels=2,
        id2label={0: "negative", 1: "positive"},
        label2id={"negative": 0, "positive": 1},
        initializer_range=0.05,  # BERT's 0.02 is for wide layers; with it one seed in five sticks at counting words
    )
    return BertForSequenceClassification(config)


def dropout(settings):
    """What --dropout changes of a model's configuration."""
    if settings.dropout is None:
        return {}
    return {"hidden_dropout_prob": settings.dropout, "attention_probs_dropout_prob": settings.dropout}


def load_model(settings, names):
    """The model and its tokenizer: the bundled one, or a pretrained one with a new classifier for the labels."""
    if settings.model == BUNDLED:
        tokenizer = make_tokenizer()
        return make_model(settings, len(tokenizer)), tokenizer
    torch.manual_seed(settings.seed)
    check_model(settings)
    try:
        tokenizer = BertTokenizer.from_pretrained(settings.model)
        model, told = BertForSequenceClassification.from_pretrained(
            settings.model,
            num_labels=len(names),
            id2label=dict(enumerate(names)),
            label2id={name: number for number, name in enumerate(names)},
            **dropout(settings),
            ignore_mismatched_sizes=True,  # the classifier of another job, with other labels
            output_loading_info=True,
        )
    except Exception as error:  # OSError, safetensors' own, whatever a broken file leads to
        raise JobError(
            "the model %s cannot be had: %s" % (settings.model, reason(error)), hint_for(settings.model, error)
        ) from error
    wrong = [one[0] for one in told["mismatched_keys"] if not one[0].startswith("classifier.")]
    if wrong:
        raise JobError("the model %s does not fit its config.json: %s has another size" % (settings.model, wrong[0]))
    return model, tokenizer


def check_model(settings):
    """Raises `JobError` for what is no BERT; config.json is asked for alone, as a hub's silence is plain here."""
    name = settings.model
    if is_path(name) and not os.path.isdir(name):
        raise JobError("there is no folder %s" % name, "in a container there is what was mounted, no more")
    for files in (("config.json",), ("vocab.txt", "tokenizer.json")):
        if os.path.isdir(name) and not any(os.path.exists(os.path.join(name, file)) for file in files):
            raise JobError("the folder %s is no model with its tokenizer: it has no %s" % (name, files[0]))
    try:
        config = AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        first = str(error).split("\n", maxsplit=1)[0]  # plain words; beneath them is a network library's stack
        raise JobError("the model %s cannot be had: %s" % (name, first), hint_for(name, error)) from error
    if config.model_type != "bert":
        raise JobError("%s is a model of type %s; this job trains BERT" % (name, config.model_type))
    if settings.max_length > config.max_position_embeddings:
        raise JobError(
            "--max-length %d is more than the %d that this model takes"
            % (settings.max_length, config.max_position_embeddings)
        )


# --- training ------------------------------------------------------------------------------------------------------


def pick_device(settings):
    """ "cuda" or "cpu"; raises `JobError` for what this machine or this torch cannot do."""
    seen = torch.cuda.is_available()
    device = "cuda" if seen and settings.device != "cpu" else "cpu"
    if settings.device == "cuda" and not seen:
        raise JobError("no GPU is visible in here", "`docker run --gpus all …` shows it one")
    if settings.precision in ("fp16", "tf32") and device == "cpu":
        raise JobError("--precision %s needs a GPU" % settings.precision, "a CPU has bf16")
    if settings.precision == "bf16" and device == "cuda" and not torch.cuda.is_bf16_supported():
        raise JobError("this GPU has no bf16", "use --precision fp16")
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if device == "cuda":
        if local >= torch.cuda.device_count():
            message = "there are %d GPUs, and this is process %d of this node" % (torch.cuda.device_count(), local + 1)
            raise JobError(message, "start a process for each GPU: torchrun --nproc-per-node gpu")
        torch.cuda.set_device(local)
    return device


def train(model, data, settings, device, *, tokenizer=None, run=None, team=None):
    """AdamW with a linear schedule; returns the loss of every batch. `run` is told of steps and epochs."""
    team, run = team or Alone(settings, device, partial(precision, settings, device)), run or Run()
    running = compile_model(team.wrap(model), settings, device)
    if team.rank:  # each process drops out for itself
        torch.manual_seed(settings.seed + team.rank)
    order = torch.Generator().manual_seed(settings.seed)
    lengths = [len(ids) for ids in data["input_ids"]]
    batches = len(plan_batches(lengths, settings, torch.Generator()))
    steps = (batches + settings.accumulate - 1) // settings.accumulate * settings.epochs
    optimizer = torch.optim.AdamW((p for p in running.parameters() if p.requires_grad), lr=settings.learning_rate)
    schedule = get_linear_schedule_with_warmup(optimizer, int(steps * settings.warmup), steps)
    scaler = make_scaler(settings)
    losses = run.begin(team, optimizer, schedule, order, batches * settings.epochs)
    for epoch in range(len(losses) // batches, settings.epochs):
        running.train()
        run.begin_epoch(order)
        plan = plan_batches(lengths, settings, order)
        left = plan[len(losses) - epoch * batches :]  # the others were trained on before the run was interrupted
        loader = make_loader(data, settings, [team.share(rows) for rows in left], tokenizer)
        shown = tqdm(loader, desc="epoch %d" % (epoch + 1), leave=False, disable=None if team.leads else True)
        for number, (rows, batch) in enumerate(zip(left, shown), len(plan) - len(left) + 1):
            complete = number % settings.accumulate == 0 or number == len(plan)
            with nullcontext() if complete else team.waits(running):
                with precision(settings, device):
                    loss = running(**{name: value.to(device) for name, value in batch.items()}).loss * team.weight(rows)
                scaler.scale(loss / settings.accumulate).backward()
            loss, stop = team.agree(loss.detach(), STOP["asked"])
            losses.append(loss)
            if complete:
                scaler.step(optimizer)
                scaler.update()
                schedule.step()
                optimizer.zero_grad()
                run.end_step(losses, stop)
        run.end_epoch(epoch + 1, losses)
    return losses


def make_loader(data, settings, batches, tokenizer):
    """The rows of each batch as tensors, padded to the longest of them if they are not all padded already."""
    pad = DataCollatorWithPadding(tokenizer, pad_to_multiple_of=padding_step(settings))
    collate = None if settings.padding == "max" else pad
    unseen = torch.Generator()  # a loader draws from one at its start, and must not draw from dropout's
    return DataLoader(data, batch_sampler=batches, collate_fn=collate, generator=unseen)


def precision(settings, device):
    """Where to compute in: 16 bits where that is safe (torch.autocast), 32 elsewhere."""
    if settings.precision in ("bf16", "fp16"):
        return torch.autocast(device, dtype=torch.bfloat16 if settings.precision == "bf16" else torch.float16)
    torch.backends.cuda.matmul.allow_tf32 = settings.precision == "tf32"
    return nullcontext()


def make_scaler(settings):
    """Keeps the small gradients of fp16 from vanishing; does nothing for the others."""
    scaler = torch.amp.GradScaler if hasattr(torch.amp, "GradScaler") else torch.cuda.amp.GradScaler
    return scaler(enabled=settings.precision == "fp16")


@torch.no_grad()
def evaluate(model, data, device, *, negated=(), tokenizer=None, batch=256):
    """Accuracy on all of `data`, and on those of its rows that `negated` marks."""
    model.eval()
    answers, labels = [], []
    for rows in DataLoader(
        data, batch_size=batch, collate_fn=DataCollatorWithPadding(tokenizer) if tokenizer else None
    ):
        labels.append(rows.pop("labels"))
        logits = model(**{name: value.to(device) for name, value in rows.items()}).logits
        answers.append(logits.argmax(-1).cpu())
    answers, labels = torch.cat(answers), torch.cat(labels)
    turned = torch.tensor([bool(one) for one in negated], dtype=torch.bool)

    def accuracy(answers, labels):  # micro: right ones among all, the classes not weighed
        if not len(labels):
            return 0.0
        return round(multiclass_accuracy(answers, labels, model.config.num_labels, average="micro").item(), 6)

    return accuracy(answers, labels), accuracy(answers[turned], labels[turned]) if len(turned) else 0.0


def peak_memory(device):
    """Bytes: of the GPU where there is one, else of this process."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def fine_tune(settings, say=str, on_step=None):
    """The whole job; returns what was measured, and the model and tokenizer with it; None where another one leads."""
    device = pick_device(settings)
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    team = make_team(settings, device, partial(precision, settings, device))
    say = say if team.leads else str
    say("device: %s, %d threads%s" % (name, torch.get_num_threads(), ", %d processes" % team.size * (team.size > 1)))
    rows, held_out, names = load_data(settings)
    model, tokenizer = load_model(settings, names)
    train_data, test_data = (tokenize(part, tokenizer, settings) for part in (rows, held_out))
    negated = held_out["negated"] if "negated" in held_out.column_names else []
    before = pretrain(model, tokenizer, (rows, held_out), settings, team=team, say=say, train=train)

    def score(one, where="cpu"):
        return evaluate(one, test_data, where, negated=negated, tokenizer=tokenizer, batch=4 * settings.batch)

    def score_together():
        whole = team.gather()
        return team.tell(score(whole, device) if team.leads else None)

    run = Recorded(settings, score_together, say, on_step)
    losses = train(model, train_data, settings, device, tokenizer=tokenizer, run=run, team=team)
    seconds = run.seconds()
    run.close()
    STOP["may_wait"] = False
    model = team.gather()
    team.leave()
    if not team.leads:
        return None
    measured = {
        "accuracy": run.epochs[-1]["accuracy"],
        "negated": run.epochs[-1]["negated"],
        "loss": sum(losses[-10:]) / len(losses[-10:]),
        "losses": [round(loss, 5) for loss in losses],
        "epochs": run.epochs,
        "steps": len(losses),
        "seconds": round(seconds, 2),
        "samples_per_second": round(settings.epochs * len(train_data) / seconds, 2),
        "peak_memory_bytes": peak_memory(device),
        "tokens": settings.max_length,
        "parameters": sum(p.numel() for p in model.parameters()),
        "device": name,
        "processes": team.size,
        "seed": settings.seed,
        **before,
    }
    if settings.quantize:
        measured["quantized"] = quantize(model, score)
        say("quantized: %(share).2f of the size, accuracy %(accuracy).3f" % measured["quantized"])
    return measured, model, tokenizer


def quantize(model, score):
    """The model with 8-bit weights in its linear layers: {"bytes", "share" of the model's, "accuracy", "negated"}."""
    library = getattr(torch, "ao", torch).quantization
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces a successor that BERT does not need yet
        small = library.quantize_dynamic(copy.deepcopy(model).cpu().eval(), {torch.nn.Linear}, dtype=torch.qint8)
    sizes = []
    for one in (model, small):
        stream = io.BytesIO()
        torch.save(one.state_dict(), stream)
        sizes.append(stream.tell())
    accuracy, negated = score(small)
    return {"bytes": sizes[1], "share": round(sizes[1] / sizes[0], 3), "accuracy": accuracy, "negated": negated}


# --- the command ---------------------------------------------------------------------------------------------------


def save(folder, measured, model, tokenizer):
    """Model (safetensors), tokenizer and metrics.json."""
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    with open(os.path.join(folder, "metrics.json"), "w", encoding="utf-8") as stream:
        json.dump(measured, stream, indent=1)


LOST = ("Connection closed by peer", "Connection reset by peer", "ncclRemoteError", "communicator was aborted")
LOST_HINT = (
    "see what it said. If that is nothing, and torchrun tells of SIGKILL (-9), the kernel killed it, most likely "
    "for memory: halve --batch (--accumulate 2 keeps the size of a step), or give the container more (--memory, "
    "--shm-size). With --save-every and --resume a run goes on, and torchrun --max-restarts does so itself"
)


def explain(error):
    """An error as a line for a person, and what to change; "" where it is one that only a developer can mend."""
    text = str(error)
    if "out of memory" in text or "can't allocate memory" in text:
        hint = "halve --batch, or shorten --max-length; on a GPU, see who else uses it: `nvidia-smi`"
        return "out of memory: %s" % text.split("\n", maxsplit=1)[0][:200], hint
    if any(sign in text for sign in LOST):
        return "another process of this run has gone: %s" % text.split("\n", maxsplit=1)[0][-200:], LOST_HINT
    if failed_to_compile(error):
        return "torch.compile failed: %s" % text.strip().split("\n", maxsplit=1)[0][:300], "leave out --compile"
    if "No space left on device" in text:  # OSError's words, and in safetensors' own error
        return "the disk is full", "make room, then go on from the last checkpoint with `--resume`"
    return (text, getattr(error, "hint", "")) if isinstance(error, (JobError, OSError)) else ("", "")


def main(settings):
    try:
        if settings.output:
            os.makedirs(settings.output, exist_ok=True)
        done = fine_tune(settings, say=lambda text: print(text, flush=True))
        if done is None:
            return 0
        measured, model, tokenizer = done
        if settings.output:
            save(settings.output, measured, model, tokenizer)
            draw(settings.output)
            write_page(settings.output, measured, vars(settings))
    except SystemExit as interrupted:  # and saved
        return interrupted.code
    except Exception as error:
        message, hint = explain(error)
        if not message:
            raise
        print("error: %s" % message, file=sys.stderr)
        if hint:
            print("hint: %s" % hint, file=sys.stderr)
        return 1
    print("%(steps)d steps in %(seconds).1f s, %(samples_per_second).0f texts a second, loss %(loss).4f" % measured)
    if settings.output:
        print("model, metrics, learning-curve.png and report.html: %s" % settings.output)
    return 0


def end(code):
    """The end of this process; one of several is not taken apart by Python, which would end its groups (GROUPS)."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        sys.exit(code)
    atexit._run_exitfuncs()  # temporary folders go
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
