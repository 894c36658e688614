"""The shop's own tests. Each runs in a transaction that is rolled back."""
