"""The shop's own tests: each in a transaction that is rolled back."""
