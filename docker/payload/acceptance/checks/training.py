"""Does BERT learn, and does it learn right?"""

import contextlib
import functools
import time

from acceptance.checks.inspection import LIBRARIES, Failure, NotRun

_TRAINING_REMEDY = "run `train` in the image and compare its epochs with docs/decisions/0006-the-fine-tune.md"


def of_the_job(check):
    """A check of the training job: where the job breaks, the check has failed."""

    @functools.wraps(check)
    def checked(inspection):
        try:
            return check(inspection)
        except (Failure, NotRun):
            raise
        except Exception as error:
            if isinstance(error, ModuleNotFoundError) and error.name in LIBRARIES:  # no evidence against the job
                raise
            text = "the training job broke: %s: %s" % (type(error).__name__, str(error).strip()[:300])
            raise Failure(detail=text, remedy=_TRAINING_REMEDY) from error

    return checked


def trained(inspection):
    """The bundled fine-tune, run once for the four checks that look at it."""
    if not inspection.training and inspection.training_error is None:
        import train

        settings = train.parse_settings([])

        def on_step(step, steps, loss):
            if step % 10 == 0 or step == steps:
                inspection.on_progress(step, steps, "loss %.3f" % loss)

        train_alone()
        begun = time.process_time()
        inspection.training_error = "it did not end in time"  # holds if a deadline ends it: it is not started again
        try:
            inspection.training = train.fine_tune(settings, on_step=on_step)[0]
        except Exception as error:
            inspection.training_error = "%s: %s" % (type(error).__name__, str(error).strip()[:300])
            raise
        inspection.training_error = None
        inspection.training_processor_seconds = round(time.process_time() - begun, 2)
    if inspection.training_error is not None:
        raise Failure(detail="the training job broke: %s" % inspection.training_error, remedy=_TRAINING_REMEDY)
    return inspection.training


@of_the_job
def check_accuracy(inspection):
    return inspection.judge("training.accuracy", trained(inspection)["accuracy"], "it did not learn", _TRAINING_REMEDY)


@of_the_job
def check_negated(inspection):
    detail = "it counts words and does not attend to the negation"
    return inspection.judge("training.negated", trained(inspection)["negated"], detail, _TRAINING_REMEDY)


@of_the_job
def check_loss(inspection):
    return inspection.judge("training.loss", trained(inspection)["loss"], "the loss stays high", _TRAINING_REMEDY)


@of_the_job
def check_seconds(inspection):
    """Seconds of its one thread: on a busy machine the clock runs on while others work."""
    trained(inspection)
    seconds, remedy = inspection.training_processor_seconds, "is this a slow build of torch, or a slow processor?"
    return inspection.judge("training.seconds", seconds, "it trains too slowly", remedy, unit="s")


# --- what accuracy does not see: exact comparisons on a few steps --------------------------------------------------

FEW = ["--rows", "128", "--held-out", "16", "--epochs", "2"]  # eight steps


def train_alone():
    """One thread: as fast for so small a model, and on a busy machine many times faster than two."""
    import torch

    torch.set_num_threads(1)


def few_steps():
    """Settings, data and tokenizer of a short run."""
    import train

    train_alone()
    settings = train.parse_settings(FEW)
    rows, held_out, _ = train.load_data(settings)
    tokenizer = train.make_tokenizer()
    return settings, train.tokenize(rows, tokenizer, settings), train.tokenize(held_out, tokenizer, settings), tokenizer


@of_the_job
def check_reference(inspection):
    """The losses are those of a loop written down here once more: gradients by autograd, AdamW by its formulas."""
    import copy

    import torch

    import train

    settings, data, _, tokenizer = few_steps()
    model = train.make_model(settings, len(tokenizer))
    for module in model.modules():  # without dropout nothing is left to chance
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "dropout_prob"):
            module.dropout_prob = 0.0
    other = copy.deepcopy(model)
    seen = train.train(model, data, settings, "cpu")
    expected = reference_losses(other, data, settings)
    worst = max(abs(a - b) for a, b in zip(seen, expected)) if len(seen) == len(expected) else float("inf")
    detail = "the losses leave the reference at step %d" % first_apart(seen, expected)
    remedy = "look at the loop in train.py: loss.backward, optimizer.step, schedule.step, zero_grad, each once a step"
    return inspection.judge("training.reference", worst, detail, remedy)


def first_apart(seen, expected):
    pairs = zip(seen, expected)
    return next((step for step, (a, b) in enumerate(pairs, 1) if not abs(a - b) < 1e-4), len(expected))


def reference_losses(model, data, settings):
    """AdamW (Loshchilov and Hutter, 2019; weight decay 0.01) with linear warm-up and decay, in plain arithmetic."""
    import torch

    order = torch.Generator().manual_seed(settings.seed)
    size = settings.batch
    steps = (len(data) + size - 1) // size * settings.epochs
    warmup = int(steps * settings.warmup)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    first, second = ([torch.zeros_like(parameter) for parameter in parameters] for _ in range(2))
    losses = []
    model.train()
    for _ in range(settings.epochs):
        rows = torch.randperm(len(data), generator=order).tolist()
        for start in range(0, len(rows), size):
            batch = data[rows[start : start + size]]
            step = len(losses)
            share = step / max(1, warmup) if step < warmup else (steps - step) / max(1, steps - warmup)
            rate = settings.learning_rate * share
            loss = model(**batch).loss
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
            with torch.no_grad():
                for parameter, gradient, m, v in zip(parameters, gradients, first, second):
                    if gradient is None:
                        continue
                    m.mul_(0.9).add_(gradient, alpha=0.1)
                    v.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
                    parameter.mul_(1 - rate * 0.01)
                    root = (v / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8
                    parameter.addcdiv_(m / (1 - 0.9 ** (step + 1)), root, value=-rate)
            losses.append(loss.item())
    return losses


@of_the_job
def check_repeatable(inspection):
    """The same seed gives the same losses."""
    import train

    settings, data, _, tokenizer = few_steps()
    runs = [train.train(train.make_model(settings, len(tokenizer)), data, settings, "cpu") for _ in range(2)]
    worst = max(abs(a - b) for a, b in zip(*runs))
    return inspection.judge(
        "training.repeatable", worst, "the same seed gives other losses", "seed weights, order, dropout"
    )


@of_the_job
def check_padding(inspection):
    """Logits are the same with padding and without: the attention mask is right and is used."""
    import torch

    import train

    settings, _, held_out, tokenizer = few_steps()
    model = train.make_model(settings, len(tokenizer)).eval()
    worst = 0.0
    with torch.no_grad():
        for row in held_out:
            ids, mask = row["input_ids"], row["attention_mask"]
            length = int((ids != tokenizer.pad_token_id).sum())
            padded = model(input_ids=ids[None], attention_mask=mask[None]).logits
            bare = model(input_ids=ids[None, :length], attention_mask=torch.ones(1, length, dtype=torch.long)).logits
            worst = max(worst, (padded - bare).abs().max().item())
    remedy = "the attention mask must be 0 on padding: see `tokenize` in train.py"
    return inspection.judge("training.padding", worst, "padding changes the answer", remedy)


@of_the_job
def check_checkpoint(inspection):
    """What is saved (safetensors, nothing else) and loaded again answers alike and goes on with the same loss."""
    import copy
    import os
    import tempfile

    import torch

    import train

    settings, data, held_out, tokenizer = few_steps()
    model = train.make_model(settings, len(tokenizer))
    train.train(model, data, settings, "cpu")
    with tempfile.TemporaryDirectory() as folder:
        train.save(folder, {}, model, tokenizer)
        names = os.listdir(folder)
        unsafe = [name for name in names if name.endswith((".bin", ".pt", ".pth", ".pkl"))]
        if unsafe or "model.safetensors" not in names:
            remedy = "save with safe_serialization=True: unpickling runs whatever is in the file"
            raise Failure(
                value=", ".join(sorted(names)), bound="safetensors only", detail="not safetensors", remedy=remedy
            )
        loaded = type(model).from_pretrained(folder)
    batch = {name: value[:16] for name, value in held_out[:16].items()}
    with torch.no_grad():
        answers = [one.eval()(**batch).logits for one in (model, loaded)]
    worst = (answers[0] - answers[1]).abs().max().item()
    further = copy.copy(settings)
    further.epochs = 1
    losses = []
    for one in (model, loaded):
        torch.manual_seed(2)
        losses.append(train.train(one, data, further, "cpu"))
    worst = max([worst] + [abs(a - b) for a, b in zip(*losses)])
    return inspection.judge("training.checkpoint", worst, "the loaded model is another", "see `save` in train.py")


@of_the_job
def check_resume(inspection):
    """A run that is cut off after a checkpoint and goes on has the losses of one that was not."""
    import tempfile

    import train

    class Cut(Exception):
        """What ends the first half."""

    def cut(batch, batches, loss):
        if batch == 6:
            raise Cut

    words = [*FEW, "--save-every", "1"]
    whole = train.fine_tune(train.parse_settings(words))[0]["losses"]
    with tempfile.TemporaryDirectory() as folder:
        words += ["--output", folder]
        with contextlib.suppress(Cut):
            train.fine_tune(train.parse_settings(words), on_step=cut)
        seen = train.fine_tune(train.parse_settings([*words, "--resume"]))[0]["losses"]
    worst = max(abs(a - b) for a, b in zip(seen, whole)) if len(seen) == len(whole) else float("inf")
    return inspection.judge(
        "training.resume", worst, "a run that goes on is another run", "see `Recorded` and checkpoints.py"
    )


@of_the_job
def check_throughput(inspection):
    """Training's arithmetic against a matrix product's, measured beside it: a bound that holds on any machine."""
    import torch

    measured = trained(inspection)
    a, b = torch.randn(768, 768), torch.randn(768, 768)
    a @ b
    started, products = time.monotonic(), 0
    while time.monotonic() - started < 1.0:
        a @ b
        products += 1
    yardstick = products * 2 * 768**3 / (time.monotonic() - started)
    work = measured["samples_per_second"] * 6 * measured["parameters"] * measured["tokens"]
    remedy = "is one thread doing all the work (OMP_NUM_THREADS), or is this a slow build of torch?"
    return inspection.judge(
        "training.throughput", round(work / yardstick, 4), "training crawls on this machine", remedy
    )
