"""The dashboard in a Django project."""
