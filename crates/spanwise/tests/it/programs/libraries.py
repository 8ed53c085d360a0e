"""Popular libraries of Python, each used once below one span, and servers of three frameworks that they call."""

import asyncio
import os
import socket
import urllib.request

import aiohttp
import aiohttp.web
import celery
import celery.contrib.testing.worker
import httpx
import redis
import sqlalchemy
import tornado.httpserver
import tornado.netutil
import tornado.web
import uvicorn
from opentelemetry import trace
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

worker = celery.Celery("worker", broker="memory://", backend="cache+memory://")


@worker.task(name="add")
def add(a, b):
    return a + b


class Hello(tornado.web.RequestHandler):
    def get(self, name):
        self.write(f"hello {name}")


async def aio_hello(request):
    return aiohttp.web.Response(text="hello " + request.match_info["name"])


async def star_hello(request):
    return PlainTextResponse("hello " + request.path_params["name"])


def in_threads():
    """What is called without an event loop."""
    engine = sqlalchemy.create_engine("sqlite://")
    with engine.connect() as connection:
        assert connection.execute(sqlalchemy.text("select 41 + 1 as answer")).scalar() == 42
    store = redis.Redis.from_url(os.environ["REDIS_URL"])
    store.set("stock", 3)
    with celery.contrib.testing.worker.start_worker(worker, pool="solo", perform_ping_check=False, loglevel="ERROR"):
        assert add.delay(1, 2).get(timeout=30) == 3


async def main():
    aio = aiohttp.web.Application()
    aio.router.add_get("/aio/{name}", aio_hello)
    runner = aiohttp.web.AppRunner(aio)
    await runner.setup()
    await aiohttp.web.TCPSite(runner, "127.0.0.1", 0).start()
    aio_port = runner.addresses[0][1]

    # It listens already: who connects before the server has started is served once it has.
    star_socket = socket.create_server(("127.0.0.1", 0))
    star_port = star_socket.getsockname()[1]
    star = uvicorn.Server(uvicorn.Config(Starlette(routes=[Route("/star/{name}", star_hello)]), log_level="error"))
    serving = asyncio.create_task(star.serve(sockets=[star_socket]))

    sockets = tornado.netutil.bind_sockets(0, "127.0.0.1")
    tornado.httpserver.HTTPServer(tornado.web.Application([(r"/tornado/(\w+)", Hello)])).add_sockets(sockets)
    tornado_port = sockets[0].getsockname()[1]

    with trace.get_tracer("libraries").start_as_current_span("all of them"):
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{aio_port}/aio/a") as answer:
            assert await answer.text() == "hello a"
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"http://127.0.0.1:{star_port}/star/b")).text == "hello b"
        url = f"http://127.0.0.1:{tornado_port}/tornado/c"
        assert await asyncio.to_thread(lambda: urllib.request.urlopen(url).read()) == b"hello c"
        await asyncio.to_thread(in_threads)
    star.should_exit = True
    await serving
    await runner.cleanup()


asyncio.run(main())
print("DONE", flush=True)
