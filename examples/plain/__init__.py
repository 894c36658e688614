"""Programs without a framework: sync, async, and with a worker of their own."""
