"""Says whether a token is good. Everybody asks; nobody remembers."""

import hashlib
import os

from flask import Flask, request

app = Flask("auth")


@app.get("/verify")
def verify():
    token = request.headers.get("authorization", "")
    digest = token.encode()
    for _ in range(8_000):
        digest = hashlib.sha256(digest).digest()
    return {"valid": token.startswith("Bearer ")}


app.run("127.0.0.1", int(os.environ["PORT"]), threaded=True)
