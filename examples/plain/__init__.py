"""Programs without a framework: sync, async, and with an embedded worker."""
