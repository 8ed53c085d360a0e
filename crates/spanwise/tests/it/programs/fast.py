"""A FastAPI application."""

import fastapi

app = fastapi.FastAPI()


@app.get("/hello/{name}")
def hello(name):
    return f"hello {name}"
