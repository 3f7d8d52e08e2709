"""Hostile text for every edge of envbuilder, and what must hold whatever the text is.

`make fuzz`; docs/explanation/security.md
"""
