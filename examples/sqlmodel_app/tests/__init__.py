"""The box office's own tests: each in a transaction that is rolled back."""
