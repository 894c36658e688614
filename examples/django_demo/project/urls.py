"""The URLs of the shop."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path
from shop import views

urlpatterns = [
    path("", views.index, name="index"),
    path("orders/", views.place_order, name="place_order"),
    path("inventory/", views.begin_inventory, name="begin_inventory"),
    path("inventory/<int:workflow_id>/", views.show_inventory, name="inventory"),
    path("admin/", admin.site.urls),
]
