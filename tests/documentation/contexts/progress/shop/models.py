from django.db import models


class Export(models.Model):
    id = models.BigAutoField(primary_key=True)
    user_id = models.BigIntegerField()
    job_id = models.BigIntegerField()
