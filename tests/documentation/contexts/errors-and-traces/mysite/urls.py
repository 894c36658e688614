from django.http import HttpResponse
from django.urls import path
from shop.tasks import read_request_id


def place_order(request):
    return HttpResponse(str(read_request_id.defer()))


urlpatterns = [path("orders", place_order)]
