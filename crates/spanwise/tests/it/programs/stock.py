"""The stock: a Flask server that asks the price service, and with KAFKA sends orders."""

import logging
import os
import sys

import flask
import requests

logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s trace_id=%(otelTraceID)s")
logging.getLogger("werkzeug").setLevel(logging.ERROR)
logging.getLogger("kafka").setLevel(logging.ERROR)
app = flask.Flask(__name__)
producer = None


@app.get("/stock/<item>")
def stock(item):
    price = requests.get(f"{os.environ['PRICE_URL']}/price?item={item}", timeout=20).text
    logging.info("stock of %s", item)
    return {"item": item, "price": price}


@app.post("/buy/<item>")
def buy(item):
    check()
    total = float(stock(item)["price"])
    order = {"user": "ada", "total": total, "card": flask.request.args["card"]}
    answer = requests.post(os.environ["PAYMENT_URL"], json=order, timeout=20)
    answer.raise_for_status()
    return answer.json()


@app.get("/headers")
def headers():
    return dict(flask.request.headers)


@app.get("/boom")
def boom():
    raise ValueError("no such item")


@app.get("/slow")
def slow():
    return "ok"


@app.get("/check")
def check():
    import grpc

    with grpc.insecure_channel(os.environ["AUDIT_GRPC"]) as channel:
        return channel.unary_unary("/shop.Audit/Check")(b"tea", timeout=20)


@app.post("/order/<item>")
def order(item):
    global producer
    if producer is None:
        import kafka

        producer = kafka.KafkaProducer(bootstrap_servers=os.environ["KAFKA"])
    producer.send(flask.request.args.get("topic", "orders"), item.encode()).get(timeout=30)
    return "sent"


if __name__ == "__main__":
    import werkzeug.serving

    server = werkzeug.serving.make_server("127.0.0.1", 0, app, threaded=True)
    print(f"PORT {server.server_port}", flush=True)
    server.serve_forever()
