"""Real workers and a real server, and what can happen to them. See docs/reliability.md."""
