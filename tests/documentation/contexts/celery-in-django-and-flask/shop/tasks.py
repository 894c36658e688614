from celery import shared_task


@shared_task(autoretry_for=(OSError,), retry_backoff=True)
def send_receipt(order_id):
    print("The receipt of order", order_id)


@shared_task
def report(kind):
    print("The report of", kind)
