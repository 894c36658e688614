from django.db import models

from procrastinate.contrib.django.models import ProcrastinateJob


class Order(models.Model):
    name = models.CharField(max_length=50)
    job = models.ForeignKey(ProcrastinateJob, null=True, on_delete=models.SET_NULL)
