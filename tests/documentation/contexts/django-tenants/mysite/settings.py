import os

import sqlalchemy as sa

_url = sa.make_url(os.environ["DATABASE_URL"])
SECRET_KEY = "of a test"
USE_TZ = True
ALLOWED_HOSTS = ["*"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
SHARED_APPS = ["django_tenants", "customers", "django.contrib.contenttypes", "django.contrib.auth"]
TENANT_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "shop"]
INSTALLED_APPS = [*SHARED_APPS, "shop"]
DATABASES = {"default": {"ENGINE": "django_tenants.postgresql_backend", "NAME": _url.database}}
DATABASE_ROUTERS = ["django_tenants.routers.TenantSyncRouter"]
TENANT_MODEL = "customers.Client"
TENANT_DOMAIN_MODEL = "customers.Domain"
MIDDLEWARE = ["django_tenants.middleware.main.TenantMainMiddleware"]
ROOT_URLCONF = "mysite.urls"
TASKS = {"default": {"BACKEND": "procrastinate.contrib.django.tasks.ProcrastinateBackend"}}
