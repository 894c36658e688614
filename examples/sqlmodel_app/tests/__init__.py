"""The box office's own tests. Each runs in a transaction that is rolled back."""
