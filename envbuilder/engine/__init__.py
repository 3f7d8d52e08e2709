"""The only room that talks to Docker: builds through buildx, everything else through the SDK."""
