"""Carts in Redis, items in SQLite, prices from the catalog."""

import os
import sqlite3

import redis
import requests
from flask import Flask, request

HEALTHY = os.environ.get("SHOP") == "healthy"
AUTH, CATALOG = os.environ["AUTH_URL"], os.environ["CATALOG_URL"]
app = Flask("cart")
carts = redis.Redis("127.0.0.1", int(os.environ["REDIS_PORT"]), decode_responses=True)


@app.get("/cart/<user>")
def cart(user):
    token = {"authorization": request.headers.get("authorization", "")}
    if not HEALTHY and not requests.get(f"{AUTH}/verify", headers=token, timeout=10).json()["valid"]:
        return {"error": "who are you?"}, 401
    ids = carts.lrange(f"cart:{user}", 0, -1)
    database = sqlite3.connect(os.environ["DATABASE"]).cursor()
    if HEALTHY:
        marks = ",".join("?" * len(ids))
        rows = database.execute(f"SELECT id, name FROM items WHERE id IN ({marks})", ids).fetchall()
    else:
        rows = [database.execute("SELECT id, name FROM items WHERE id = ?", (item,)).fetchone() for item in ids]
    prices = requests.get(f"{CATALOG}/prices", params={"ids": ",".join(ids)}, headers=token, timeout=10).json()
    return [{"id": row[0], "name": row[1], "price": prices[str(row[0])]} for row in rows]


app.run("127.0.0.1", int(os.environ["PORT"]), threaded=True)
