"""The survey that research collects → rows of facts; pure. One module for each subject of its tables."""
