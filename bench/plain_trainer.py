"""The script that people write: the "fine-tune a pretrained model" page of transformers' documentation, for a CSV.

    python plain_trainer.py MODEL TRAIN.csv TEST.csv OUTPUT EPOCHS BATCH MAX_LENGTH SEED

Every text is padded to the longest that the model takes, as on that page; everything else is Trainer's default. What is
added: seed, arguments, and the figures in OUTPUT/metrics.json. It runs next to bench/finetune_speed.py.
"""

import json
import resource
import sys
from pathlib import Path

import numpy as np
from datasets import load_dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    Trainer,
    TrainingArguments,
)

model_name, train_file, test_file, output = sys.argv[1:5]
epochs, batch, max_length, seed = map(int, sys.argv[5:9])

dataset = load_dataset("csv", data_files={"train": train_file, "test": test_file})
tokenizer = AutoTokenizer.from_pretrained(model_name)


def tokenize(rows):
    return tokenizer(
        rows["text"], padding="max_length", truncation=True, max_length=max_length
    )


dataset = dataset.map(tokenize, batched=True)
model = AutoModelForSequenceClassification.from_pretrained(model_name, num_labels=2)


def compute_metrics(prediction):
    logits, labels = prediction
    return {"accuracy": float((np.argmax(logits, axis=-1) == labels).mean())}


arguments = TrainingArguments(
    output_dir=output,
    num_train_epochs=epochs,
    per_device_train_batch_size=batch,
    seed=seed,
    report_to=[],
)
trainer = Trainer(
    model=model,
    args=arguments,
    train_dataset=dataset["train"],
    eval_dataset=dataset["test"],
    compute_metrics=compute_metrics,
)
before = resource.getrusage(resource.RUSAGE_SELF)
result = trainer.train()
after = resource.getrusage(resource.RUSAGE_SELF)
scores = trainer.evaluate()
measured = {
    "samples_per_second": result.metrics["train_samples_per_second"],
    "processor_seconds": after.ru_utime
    + after.ru_stime
    - before.ru_utime
    - before.ru_stime,
    "accuracy": scores["eval_accuracy"],
    "peak_memory_bytes": after.ru_maxrss * 1024,
}
Path(output, "metrics.json").write_text(
    json.dumps(measured), encoding="utf-8", newline="\n"
)
