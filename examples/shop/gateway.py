"""The front door: cart, checkout, products and orders."""

import json
import os
import sqlite3

import requests
from flask import Flask, Response, request
from opentelemetry import trace

HEALTHY = os.environ.get("SHOP") == "healthy"
CART, CATALOG, PAYMENT = os.environ["CART_URL"], os.environ["CATALOG_URL"], os.environ["PAYMENT_URL"]
app = Flask("gateway")
tracer = trace.get_tracer("shop.gateway")


def forward_token():
    return {"authorization": request.headers.get("authorization", "")}


@app.get("/cart")
def cart():
    answer = requests.get(f"{CART}/cart/{request.args['user']}", headers=forward_token(), timeout=10)
    return Response(answer.content, answer.status_code, content_type="application/json")


@app.post("/checkout")
def checkout():
    user = request.args["user"]
    items = requests.get(f"{CART}/cart/{user}", headers=forward_token(), timeout=10).json()
    with tracer.start_as_current_span("checkout.total") as span:
        total = sum(item["price"] for item in items)
        span.set_attribute("shop.items", len(items))
        span.set_attribute("shop.total", total)
    order = {"user": user, "total": total, "card": request.args.get("card", "new")}
    answer = requests.post(f"{PAYMENT}/pay", json=order, headers=forward_token(), timeout=10)
    if answer.status_code != 200:
        return {"error": "payment failed"}, 502
    return {"paid": total}


@app.get("/products")
def products():
    ids = {"ids": request.args.get("ids", "")}
    answer = requests.get(f"{CATALOG}/prices", params=ids, headers=forward_token(), timeout=10)
    return Response(answer.content, answer.status_code, content_type="application/json")


@app.get("/orders")
def orders():
    database = sqlite3.connect(os.environ["DATABASE"]).cursor()
    rows = database.execute("SELECT id, customer, total FROM orders LIMIT 400").fetchall()
    rounds = 1 if HEALTHY else 120
    for _ in range(rounds):
        text = json.dumps([{"id": row[0], "customer": row[1], "total": row[2]} for row in rows])
    return Response(text, content_type="application/json")


app.run("127.0.0.1", int(os.environ["PORT"]), threaded=True)
