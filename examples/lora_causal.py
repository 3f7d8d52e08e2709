"""LoRA: teach a causal model to answer prompts, by training a hundredth of its weights. Needs peft.

python lora_causal.py --data notes.jsonl --model Qwen/Qwen2.5-0.5B --output runs/lora

Each line of the data is {"prompt": "…", "answer": "…"}. Only answers are learned. `--merge` also saves the model with
the adapter in its weights, in OUTPUT/merged: it loads without peft.
"""

import argparse
import json
from pathlib import Path

import torch
from datasets import load_dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

# The linear layers of Llama, Qwen, Mistral and Gemma; other models have other names.
LAYERS = "q_proj k_proj v_proj o_proj gate_proj up_proj down_proj"
IGNORED = -100  # the label of a token that is not learned

parser = argparse.ArgumentParser()
parser.add_argument("--data", required=True, help="JSON lines with prompt and answer")
parser.add_argument("--model", required=True, help="hub name, or folder")
parser.add_argument("--output", default="runs/lora")
parser.add_argument("--epochs", type=float, default=3)
parser.add_argument("--batch-size", type=int, default=8)
parser.add_argument("--learning-rate", type=float, default=2e-4)
parser.add_argument("--max-length", type=int, default=512)
parser.add_argument("--rank", type=int, default=16)
parser.add_argument("--layers", default=LAYERS)
parser.add_argument("--merge", action="store_true")
options = parser.parse_args()

torch.manual_seed(0)
tokenizer = AutoTokenizer.from_pretrained(options.model)
if tokenizer.pad_token is None:
    tokenizer.pad_token = tokenizer.eos_token
base = AutoModelForCausalLM.from_pretrained(options.model)
adapter = LoraConfig(
    task_type="CAUSAL_LM",
    r=options.rank,
    lora_alpha=2 * options.rank,
    lora_dropout=0.0,
    target_modules=options.layers.split(),
)
model = get_peft_model(base, adapter)
model.print_trainable_parameters()


def encode(row):
    """The prompt, the answer, and the end of the text; labels only where there is something to learn."""
    prompt = tokenizer(row["prompt"])["input_ids"]
    answer = tokenizer(" " + row["answer"], add_special_tokens=False)["input_ids"]
    answer = [*answer, tokenizer.eos_token_id]
    return {
        "input_ids": [*prompt, *answer][: options.max_length],
        "labels": [*[IGNORED] * len(prompt), *answer][: options.max_length],
    }


def collate(rows):
    """Rows of equal length, padded on the right."""
    longest = max(len(row["input_ids"]) for row in rows)
    batch = {"input_ids": [], "attention_mask": [], "labels": []}
    for row in rows:
        missing = longest - len(row["input_ids"])
        batch["input_ids"].append(row["input_ids"] + [tokenizer.pad_token_id] * missing)
        batch["attention_mask"].append([1] * len(row["input_ids"]) + [0] * missing)
        batch["labels"].append(row["labels"] + [IGNORED] * missing)
    return {name: torch.tensor(value) for name, value in batch.items()}


def complete(prompt):
    """What the model answers to a prompt."""
    inputs = tokenizer(prompt, return_tensors="pt").to(model.device)
    length = inputs["input_ids"].shape[1]
    with torch.no_grad():
        tokens = model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            max_new_tokens=32,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
        )
    return tokenizer.decode(tokens[0, length:], skip_special_tokens=True).strip()


data = load_dataset("json", data_files=options.data, split="train")
split = data.train_test_split(test_size=0.1, seed=0)
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        output_dir=options.output,
        num_train_epochs=options.epochs,
        per_device_train_batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        warmup_steps=10,
        save_strategy="no",
        logging_steps=20,
        remove_unused_columns=False,
        report_to="none",
        seed=0,
    ),
    train_dataset=split["train"].map(encode, remove_columns=data.column_names),
    data_collator=collate,
)
trainer.train()
model.eval()
model.save_pretrained(options.output)
tokenizer.save_pretrained(options.output)

right = 0
held_out = list(split["test"])[:100]
for row in held_out:
    answer = complete(row["prompt"])
    right += answer == row["answer"]
print(f"{row['prompt']} → {answer}")
metrics = {"held_out": len(held_out), "exact_answers": right / len(held_out)}
Path(options.output, "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
print(
    f"{metrics['exact_answers']:.3f} of {len(held_out)} held-out prompts are answered exactly"
)
if options.merge:
    merged = Path(options.output, "merged")
    model.merge_and_unload().save_pretrained(merged)
    tokenizer.save_pretrained(merged)
