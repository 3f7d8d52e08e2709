"""What people read: stacks, receipts, images and findings as text, and the catalog as a page."""
