"""HTTPS with asyncio and aiohttp: ciphertext goes through memory.

serve PORT CERT KEY: answers any GET, /fail with 500.
get PORT TRACEPARENT COUNT: asks COUNT times in turn and COUNT times at once, and prints how many
answers were 200.
"""

import asyncio
import ssl
import sys

import aiohttp
from aiohttp import web


async def answer(request):
    return web.Response(text="It works.\n", status=500 if request.path == "/fail" else 200)


def serve(port, cert, key):
    application = web.Application()
    application.router.add_get("/{path:.*}", answer)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    web.run_app(application, host="127.0.0.1", port=int(port), ssl_context=context, print=None)


async def ask(session, url):
    async with session.get(url, ssl=False) as response:
        await response.read()
        return response.status == 200


async def ask_all(port, traceparent, count):
    url = f"https://127.0.0.1:{port}"
    async with aiohttp.ClientSession(headers={"traceparent": traceparent}) as session:
        good = [await ask(session, f"{url}/in-turn?{n}") for n in range(count)]
        good += await asyncio.gather(*[ask(session, f"{url}/at-once?{n}") for n in range(count)])
        await ask(session, f"{url}/fail")
    print(sum(good))


def get(port, traceparent, count):
    asyncio.run(ask_all(port, traceparent, int(count)))


{"serve": serve, "get": get}[sys.argv[1]](*sys.argv[2:])
