from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("orders", "0001_initial"), ("procrastinate", "0028_add_cancel_states")]
    operations = []
