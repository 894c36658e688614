from django.db import models


class Order(models.Model):
    """An order of a customer."""

    customer = models.CharField(max_length=50)
    state = models.CharField(max_length=20, default="new")


class Mail(models.Model):
    """A sent mail. A recipient gets each mail once."""

    to = models.CharField(max_length=50)
    subject = models.CharField(max_length=50)

    class Meta:
        constraints = (models.UniqueConstraint(fields=["to", "subject"], name="once"),)
