"""The acceptance suite: is what is in this image what the lock says, and does it train?"""
