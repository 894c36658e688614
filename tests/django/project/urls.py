from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from tests.django.shop import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("queue/", include("procrastinate.contrib.django.dashboard.urls")),
    path("order/", views.order),
    path("order-async/", views.order_async),
]
