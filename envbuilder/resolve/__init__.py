"""From a request to a stack, or to the smallest set of options that clash."""
