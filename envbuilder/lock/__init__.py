"""Stack → Lock: every wheel with its hash, resolved by uv as the index stood on the stack's `as_of` day.

uv does the resolving (`uv pip compile --format pylock.toml`), `packaging` picks the one wheel per package that the
image will install. What comes out holds no URL, so it is as good with a mirror as with the index it came from.
"""
