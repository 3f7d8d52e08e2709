"""The guide's section 5 as it is written, from 5.2 to 5.5, in one piece; run inside an image.

    python guide.py [SEED]        its last line is JSON: samples per second of the loop, accuracy, peak memory, losses

Two bugs of the guide's are mended. The first ends its loop at the first batch: the data set gives lists and the text,
and the model takes tensors and `labels`, so the columns are renamed and set to torch's format. The second is waiting in
`compute_metrics`, which uses NumPy without importing it. `transformers.AdamW` is gone from transformers 4.50 on and
`torch.optim.AdamW` is what it told people to use; its weight decay is transformers' here, 0. Seed and figures are the
bench's.
"""

import json
import resource
import sys
import time

import numpy as np
import torch
from datasets import DatasetDict, load_dataset
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import (
    BertForSequenceClassification,
    BertTokenizer,
    DataCollatorWithPadding,
    get_scheduler,
)

try:
    from transformers import AdamW

    options = {}
except ImportError:
    from torch.optim import AdamW

    options = {"weight_decay": 0.0}

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
torch.manual_seed(seed)

# 5.2
imdb = load_dataset("imdb")

# 5.3
model_name = "bert-base-uncased"
tokenizer = BertTokenizer.from_pretrained(model_name)
model = BertForSequenceClassification.from_pretrained(model_name, num_labels=2)


# 5.4
def preprocess_function(examples):
    return tokenizer(
        examples["text"], truncation=True, padding="max_length", max_length=512
    )


tokenized_imdb = imdb.map(preprocess_function, batched=True)
tokenized_imdb = tokenized_imdb.rename_column("label", "labels")
tokenized_imdb.set_format(
    "torch", columns=["input_ids", "token_type_ids", "attention_mask", "labels"]
)

tokenized_imdb = DatasetDict(
    {"train": tokenized_imdb["train"], "test": tokenized_imdb["test"]}
)

train_dataloader = DataLoader(tokenized_imdb["train"], shuffle=True, batch_size=8)
test_dataloader = DataLoader(tokenized_imdb["test"], batch_size=8)

# 5.5
optimizer = AdamW(model.parameters(), lr=5e-5, **options)
num_epochs = 3
num_training_steps = num_epochs * len(train_dataloader)
lr_scheduler = get_scheduler(
    name="linear",
    optimizer=optimizer,
    num_warmup_steps=0,
    num_training_steps=num_training_steps,
)

device = torch.device("cuda") if torch.cuda.is_available() else torch.device("cpu")
model.to(device)

progress_bar = tqdm(range(num_training_steps))
losses, shapes = [], set()
started = time.monotonic()

model.train()
for epoch in range(num_epochs):
    for batch in train_dataloader:
        batch = {k: v.to(device) for k, v in batch.items()}
        outputs = model(**batch)
        loss = outputs.loss
        loss.backward()

        optimizer.step()
        lr_scheduler.step()
        optimizer.zero_grad()
        progress_bar.update(1)
        losses.append(loss.detach())
        shapes.add(tuple(batch["input_ids"].shape))

seconds = time.monotonic() - started

import evaluate

metric = evaluate.load("accuracy")


def compute_metrics(eval_pred):
    logits, labels = eval_pred
    predictions = np.argmax(logits, axis=-1)
    return metric.compute(predictions=predictions, references=labels)


data_collator = DataCollatorWithPadding(tokenizer=tokenizer)

model.eval()
all_logits, all_labels = [], []
for batch in test_dataloader:
    batch = {k: v.to(device) for k, v in batch.items()}
    with torch.no_grad():
        outputs = model(**batch)

    logits = outputs.logits
    predictions = torch.argmax(logits, dim=-1)
    metric.add_batch(predictions=predictions, references=batch["labels"])
    all_logits += logits.tolist()
    all_labels += batch["labels"].tolist()

accuracy = metric.compute()
print(accuracy)

measured = {
    **accuracy,
    "by_compute_metrics": compute_metrics((all_logits, all_labels)),
    "optimizer": f"{AdamW.__module__}.{AdamW.__name__}",
    "samples_per_second": num_epochs * len(tokenized_imdb["train"]) / seconds,
    "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    "losses": [float(loss) for loss in losses],
    "shapes": sorted(shapes),
}
print(json.dumps(measured))
