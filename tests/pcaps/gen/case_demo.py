"""What `wirespan replay --demo` shows: a small shop with nginx in front and Redis behind."""

import random

from clients import Http, Redis


def demo(lab, pcap):
    lab.nginx()
    lab.redis()
    choice = random.Random(7)
    with lab.capture(pcap):
        web, cache = Http(lab.truth), Redis(lab.truth)
        for number in range(1, 31):
            trace = {"traceparent": f"00-{choice.getrandbits(128):032x}-"
                                    f"{choice.getrandbits(64):016x}-01"}
            visitor = number % 5
            cache.ask("GET", f"session:{visitor}")
            if number % 6 == 1:
                cache.ask("SET", f"session:{visitor}", "cart=1", "EX", 600)
            web.ask("GET", f"/api/items/{number % 4}?currency=EUR", headers=trace)
            if number % 3 == 0:
                cache.ask("INCR", "visits")
                cache.ask("ZADD", "popular", number, f"item:{number % 4}")
            if number % 5 == 0:
                web.ask("POST", "/orders/", body=b'{"item":%d}' % number,
                        headers={**trace, "Content-Type": "application/json"})
                cache.ask("DEL", f"session:{visitor}")
            if number % 10 == 4:
                web.ask("GET", f"/images/{number}.png", headers=trace)
            if number in (13, 27):
                web.ask("GET", "/fail", headers=trace)
                cache.ask("LPUSH", "visits", "oops")
                cache.ask("BLPOP", "jobs", 0.04)
        web.ask("GET", "/busy")
        web.ask("HEAD", "/index.html")
        web.ask("GET", "/old")
        cache.ask("MGET", "visits", "session:1")
        web.close()
        cache.close()


CASES = {"demo/demo": demo}
