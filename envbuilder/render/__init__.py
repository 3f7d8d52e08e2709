"""From a lock to files: the build context, the targets, and what a project keeps of them."""
