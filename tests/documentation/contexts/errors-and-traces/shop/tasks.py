from procrastinate.contrib.django import app


@app.task(pass_context=True)
def read_request_id(context):
    print("The id is", context.job.meta["request_id"])
