"""The machine: its records, how they are collected and parsed."""
