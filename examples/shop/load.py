"""Prepares the data, then sends requests for some seconds. Usage: load.py GATEWAY_URL SECONDS"""

import itertools
import os
import random
import sqlite3
import sys
import threading
import time
import urllib.error
import urllib.request

import redis

gateway, seconds = sys.argv[1], float(sys.argv[2])
USERS = 40

carts = redis.Redis("127.0.0.1", int(os.environ["REDIS_PORT"]))
for user in range(USERS):
    carts.delete(f"cart:{user}")
    carts.rpush(f"cart:{user}", *random.Random(user).sample(range(1, 200), 12 + user % 9))
database = sqlite3.connect(os.environ["DATABASE"])
# Nobody made an index: what is sought lies behind what is no longer sold.
database.executescript(
    "CREATE TABLE IF NOT EXISTS items (id INTEGER, name TEXT);"
    "CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, customer TEXT, total INTEGER);"
)
database.execute("DELETE FROM items")
database.executemany("INSERT INTO items VALUES (?, ?)", [(n, f"item {n}") for n in [*range(1_000, 21_000), *range(1, 200)]])
database.executemany("INSERT OR IGNORE INTO orders VALUES (?, ?, ?)", [(n, f"customer {n}", n * 3) for n in range(1, 500)])
database.commit()

end = time.time() + seconds
done = {"sent": 0, "failed": 0}
# Every twenty-fifth checkout is paid with a card of the old kind.
checkouts = itertools.count(1)


def send(seed):
    choose = random.Random(seed)
    while time.time() < end:
        user = choose.randrange(USERS)
        method, path = choose.choice(
            [("GET", f"/cart?user={user}")] * 3 + [("POST", "/checkout")] * 4 + [("GET", "/orders")] * 2 + [("GET", "/products?ids=1,2,3")] * 2
        )
        if path == "/checkout":
            path = f"/checkout?user={user}&card={'old' if next(checkouts) % 25 == 7 else 'new'}"
        request = urllib.request.Request(gateway + path, method=method, headers={"authorization": f"Bearer {user}"})
        try:
            urllib.request.urlopen(request, timeout=15).read()
        except urllib.error.URLError:
            done["failed"] += 1
        done["sent"] += 1


threads = [threading.Thread(target=send, args=(seed,), daemon=True) for seed in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    while thread.is_alive():
        thread.join(0.5)
        if sys.stdout.isatty():
            print(f"\r{done['sent']} requests, {done['failed']} failed, {max(0, end - time.time()):.0f} s left ", end="", flush=True)
print(f"{done['sent']} requests sent, {done['failed']} of them failed")
