"""`finetune`: your model on your data, by transformers' Trainer."""
