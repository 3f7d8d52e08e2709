"""The second job of the suite: a small causal model that learns to copy, and to translate by LoRA.

Read in this order: sentences.py (the task and its bound), decoder.py (tokenizer, model, adapter), learning.py (the
loop, and what was learned).
"""
