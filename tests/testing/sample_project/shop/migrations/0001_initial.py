from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [
        migrations.CreateModel(
            name="Order",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("customer", models.CharField(max_length=50)),
                ("state", models.CharField(default="new", max_length=20)),
            ],
        ),
        migrations.CreateModel(
            name="Mail",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("to", models.CharField(max_length=50)),
                ("subject", models.CharField(max_length=50)),
            ],
            options={"constraints": [models.UniqueConstraint(fields=("to", "subject"), name="once")]},
        ),
    ]
