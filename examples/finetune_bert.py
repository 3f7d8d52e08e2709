"""Fine-tune BERT, or any encoder, to classify the texts of a CSV file, with transformers' Trainer.

python finetune_bert.py --data reviews.csv --model bert-base-uncased --output runs/bert
"""

import argparse
import json
from pathlib import Path

from datasets import load_dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

parser = argparse.ArgumentParser()
parser.add_argument("--data", required=True, help="CSV with columns text and label")
parser.add_argument("--model", default="bert-base-uncased", help="hub name, or folder")
parser.add_argument("--output", default="runs/bert")
parser.add_argument("--epochs", type=float, default=3)
parser.add_argument("--batch-size", type=int, default=16)
parser.add_argument("--learning-rate", type=float, default=5e-5)
parser.add_argument("--max-length", type=int, default=128)
options = parser.parse_args()

data = load_dataset("csv", data_files=options.data, split="train")
labels = sorted({str(label) for label in data["label"]})
tokenizer = AutoTokenizer.from_pretrained(options.model)
model = AutoModelForSequenceClassification.from_pretrained(
    options.model,
    num_labels=len(labels),
    id2label=dict(enumerate(labels)),
    label2id={label: number for number, label in enumerate(labels)},
    ignore_mismatched_sizes=True,  # a classifier for other labels is replaced
)


def encode(rows):
    batch = tokenizer(rows["text"], truncation=True, max_length=options.max_length)
    batch["labels"] = [labels.index(str(label)) for label in rows["label"]]
    return batch


def accuracy(evaluation):
    predictions = evaluation.predictions.argmax(-1)
    return {"accuracy": float((predictions == evaluation.label_ids).mean())}


encoded = data.map(encode, batched=True, remove_columns=data.column_names)
split = encoded.train_test_split(test_size=0.2, seed=0)
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        output_dir=options.output,
        num_train_epochs=options.epochs,
        per_device_train_batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        save_strategy="no",
        logging_steps=20,
        report_to="none",
        seed=0,
    ),
    train_dataset=split["train"],
    eval_dataset=split["test"],
    data_collator=DataCollatorWithPadding(tokenizer),
    compute_metrics=accuracy,
)
trainer.train()
metrics = trainer.evaluate()
trainer.save_model(options.output)
tokenizer.save_pretrained(options.output)
Path(options.output, "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
print(
    f"accuracy on held-out texts: {metrics['eval_accuracy']:.3f}; saved to {options.output}"
)
