"""Orders."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    """The shop's one table."""

    initial = True
    dependencies: list[tuple[str, str]] = []
    operations = [
        migrations.CreateModel(
            name="Order",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("customer", models.CharField(max_length=100)),
                ("amount", models.DecimalField(decimal_places=2, max_digits=8)),
                ("paid", models.BooleanField(default=False)),
                ("receipt_sent", models.BooleanField(default=False)),
            ],
        ),
    ]
