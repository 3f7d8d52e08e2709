"""Hostile text for every parser of envbuilder, and what must be true for any text.

`make fuzz`; docs/explanation/security.md
"""
