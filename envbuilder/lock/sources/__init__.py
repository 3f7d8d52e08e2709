"""Packages whose wheel is not on an index: git repositories, local folders and files, addresses, source packages.

Each is fetched, packed into an archive that is the same bytes for the same content, and built to a wheel offline, with
pinned build tools. The image builds the wheel again, from the same archive in the same way, and compares.
"""
