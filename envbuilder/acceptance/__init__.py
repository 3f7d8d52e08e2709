"""Host side of the acceptance suite: start it in a container, watch it, judge what it said, keep the receipt."""
