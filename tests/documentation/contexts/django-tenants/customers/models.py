from django_tenants.models import DomainMixin, TenantMixin


class Client(TenantMixin): ...


class Domain(DomainMixin): ...
