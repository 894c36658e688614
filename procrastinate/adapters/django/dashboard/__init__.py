"""The dashboard in a Django project: inside the admin, and as pages of their own."""
