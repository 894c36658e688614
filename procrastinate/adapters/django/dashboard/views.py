"""Views of the dashboard: a page of its own, and a page inside the admin."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.safestring import mark_safe

from procrastinate.adapters.django.dashboard.pages import access_in_admin, access_of, answer, to_django
from procrastinate.dashboard.access import Permission


def dashboard(request: HttpRequest, path: str = "") -> HttpResponse:
    """Show a page of the dashboard to users with permissions on jobs. Other users are asked to log in."""
    access = access_of(request)
    if not access.may(Permission.VIEW) and hasattr(request, "user") and not request.user.is_authenticated:
        return redirect_to_login(request.get_full_path())
    return to_django(answer(request, path, access, is_embedded=False))


def dashboard_in_admin(request: HttpRequest, path: str, *, model_admin: Any) -> HttpResponse:
    """Show a page of the dashboard inside the admin, to the users that the admin of jobs lets in."""
    response = answer(request, path, access_in_admin(request, model_admin), is_embedded=True)
    if response.page is None:
        return to_django(response)
    context = {
        **model_admin.admin_site.each_context(request),
        "title": response.page.title,
        "opts": model_admin.opts,
        "stylesheet": response.page.stylesheet,
        "scripts": response.page.scripts,
        # The templates of the dashboard escape every value.
        "body": mark_safe(response.page.body),
        "root": "../" * path.count("/") or "./",
    }
    made = TemplateResponse(request, "procrastinate/admin/dashboard.html", context, status=response.status)
    for name, value in response.headers:
        made[name] = value
    return made
