from procrastinate.contrib.django import app


@app.task
def pay(order_id):
    from orders.models import Order

    Order.objects.filter(pk=order_id).update(name="paid")
