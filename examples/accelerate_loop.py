"""The same fine-tune as a plain loop: accelerate alone knows about devices, processes and precision.

python accelerate_loop.py --data reviews.csv --output runs/loop
accelerate launch --num_processes 2 accelerate_loop.py …        several GPUs, or two processes on the CPU
"""

import argparse
import json
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from datasets import load_dataset
from torch.utils.data import DataLoader
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    get_linear_schedule_with_warmup,
)


def parse_options():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True, help="CSV with columns text and label")
    parser.add_argument(
        "--model", default="bert-base-uncased", help="hub name, or folder"
    )
    parser.add_argument("--output", default="runs/loop")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=16, help="of one process")
    parser.add_argument("--accumulate", type=int, default=1, help="batches in a step")
    parser.add_argument("--learning-rate", type=float, default=5e-5)
    parser.add_argument("--precision", choices=["no", "fp16", "bf16"], default="no")
    return parser.parse_args()


def make_loaders(options, tokenizer):
    """Batches to train on, batches to evaluate on, and the names of the labels."""
    data = load_dataset("csv", data_files=options.data, split="train")
    labels = sorted({str(label) for label in data["label"]})

    def encode(rows):
        batch = tokenizer(rows["text"], truncation=True, max_length=128)
        batch["labels"] = [labels.index(str(label)) for label in rows["label"]]
        return batch

    data = data.map(encode, batched=True, remove_columns=data.column_names)
    split = data.train_test_split(test_size=0.2, seed=0)
    collate = DataCollatorWithPadding(tokenizer)
    size = options.batch_size
    train = DataLoader(split["train"], size, shuffle=True, collate_fn=collate)
    test = DataLoader(split["test"], size, collate_fn=collate)
    return train, test, labels


def evaluate(accelerator, model, loader):
    """The share of right answers, over all processes."""
    model.eval()
    right = total = 0
    for batch in loader:
        with torch.no_grad():
            predictions = model(**batch).logits.argmax(-1)
        # Without the rows that fill up the last batch of some process.
        pair = accelerator.gather_for_metrics((predictions, batch["labels"]))
        right += int((pair[0] == pair[1]).sum())
        total += len(pair[1])
    return right / total


def main():
    options = parse_options()
    accelerator = Accelerator(
        mixed_precision=options.precision,
        gradient_accumulation_steps=options.accumulate,
    )
    set_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    with accelerator.main_process_first():
        train, test, labels = make_loaders(options, tokenizer)
    model = AutoModelForSequenceClassification.from_pretrained(
        options.model,
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id={label: number for number, label in enumerate(labels)},
        ignore_mismatched_sizes=True,
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.learning_rate)
    # Of all processes together: accelerate advances the schedule once for each of them.
    steps = options.epochs * len(train) // options.accumulate
    schedule = get_linear_schedule_with_warmup(optimizer, steps // 10, steps)
    model, optimizer, train, test, schedule = accelerator.prepare(
        model, optimizer, train, test, schedule
    )
    scores = []
    for epoch in range(1, options.epochs + 1):
        model.train()
        for batch in train:
            with accelerator.accumulate(model):
                loss = model(**batch).loss
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
        scores.append(evaluate(accelerator, model, test))
        accelerator.print(
            f"epoch {epoch}: accuracy {scores[-1]:.3f}, loss {loss.item():.4f}"
        )
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        accelerator.unwrap_model(model).save_pretrained(options.output)
        tokenizer.save_pretrained(options.output)
        metrics = json.dumps({"accuracy": scores[-1], "epochs": scores})
        Path(options.output, "metrics.json").write_text(metrics, encoding="utf-8")
    accelerator.end_training()


if __name__ == "__main__":
    main()
