"""The Redis cases: redis-server; redis-cli, Python and Node as clients.

Every secret and every value that must not leave the parser contains the word CANARY.
"""

import subprocess
import time

from clients import Redis, node, redis_cli
from lab import REDIS_PORT

# Cases recorded with the loopback's large frames, as a host's own capture of its traffic has them.
WITH_OFFLOADS = {"redis/big-value"}


def commands(lab, pcap):
    lab.redis()
    with lab.capture(pcap):
        db = Redis(lab.truth)
        for words in [
            ("PING",), ("PING", "hello"), ("ECHO", "hello"), ("SELECT", 1), ("DBSIZE",),
            ("SET", "k", "v", "EX", 60), ("GET", "k"), ("GETSET", "k", "w"), ("GET", "none"),
            ("MSET", "a", 1, "b", 2), ("MGET", "a", "b", "c"), ("INCR", "a"), ("INCRBYFLOAT", "a", 1.5),
            ("APPEND", "k", "more"), ("STRLEN", "k"), ("SETBIT", "bits", 7, 1), ("BITCOUNT", "bits"),
            ("EXPIRE", "k", 100), ("TTL", "k"), ("TYPE", "k"), ("EXISTS", "k", "none"), ("KEYS", "*"),
            ("HSET", "h", "f", 1, "g", 2), ("HGET", "h", "f"), ("HGETALL", "h"), ("HMGET", "h", "f", "z"),
            ("RPUSH", "l", "x", "y", "z"), ("LRANGE", "l", 0, -1), ("LPOP", "l"), ("LLEN", "l"),
            ("BLPOP", "empty", 0.02), ("SADD", "s", "m", "n"), ("SMEMBERS", "s"), ("SISMEMBER", "s", "m"),
            ("ZADD", "z", 1, "one", 2, "two"), ("ZRANGE", "z", 0, -1, "WITHSCORES"),
            ("ZRANGEBYSCORE", "z", "-inf", "+inf"), ("GEOADD", "geo", 13.36, 38.11, "Palermo"),
            ("GEOPOS", "geo", "Palermo"), ("PFADD", "hll", "a"), ("PFCOUNT", "hll"),
            ("XADD", "x", "*", "f", "v"), ("XREAD", "COUNT", 1, "STREAMS", "x", 0), ("XLEN", "x"),
            ("SCAN", 0, "COUNT", 5), ("OBJECT", "ENCODING", "k"), ("RENAME", "a", "c"), ("DEL", "b", "c"),
            ("UNLINK", "l"), ("CONFIG", "GET", "maxmemory"), ("CLIENT", "SETNAME", "tester"),
            ("CLIENT", "GETNAME"), ("INFO", "server"), ("TIME",), ("COMMAND", "COUNT"), ("LASTSAVE",),
            ("set", "lower", "case"), ("GET", b"\x00\xff binary"), ("SET", "", "empty key"),
            # Errors.
            ("LPUSH", "k", "x"), ("INCR", "k"), ("NOSUCH", "key", "CANARY-argument"), ("GET",),
            ("EVALSHA", "0" * 40, 0), ("CLUSTER", "INFO"), ("XGROUP", "CREATE", "no", "g", "$"),
            ("OBJECT", "NOSUCH"), ("EXPIRE", "k", "soon"), ("FLUSHALL",), ("QUIT",),
        ]:
            db.ask(*words)
        db.close()
        redis_cli(lab.truth, "SET", "cli", "value")
        redis_cli(lab.truth, "HSET", "cli", "f", "v")
        redis_cli(lab.truth, "GET", "cli")
        node(lab.truth, "redis_client.js", str(REDIS_PORT))


def pipelined(lab, pcap):
    lab.redis()
    with lab.capture(pcap):
        db = Redis(lab.truth)
        batch = [("SET", f"key:{n}", n) if n % 3 else ("LPUSH", f"key:{n - 1}", "x") if n % 2
                 else ("GET", f"key:{n // 2}") for n in range(1000)]
        db.send(b"".join(db.encode(*words) for words in batch))
        for words in batch:
            db.note(words, db.answer())
        db.close()
        batch = [("SADD", f"set:{n % 10}", n) for n in range(500)]
        subprocess.run(["redis-cli", "-p", str(REDIS_PORT), "--pipe"], check=True,
                       input=b"".join(db.encode(*words) for words in batch),
                       stdout=subprocess.DEVNULL)
        for words in batch:
            lab.truth.redis(words[0], words[1], "OK")
        lab.truth.redis("ECHO", None, "OK")  # redis-cli's own end marker: twenty random bytes.


def resp3(lab, pcap):
    lab.redis("--enable-debug-command", "local")
    with lab.capture(pcap):
        db, other = Redis(lab.truth), Redis(lab.truth)
        for words in [
            ("HELLO", 3), ("HSET", "h", "f", 1, "g", 2), ("HGETALL", "h"), ("SADD", "s", "a", "b"),
            ("SMEMBERS", "s"), ("ZADD", "z", 1.5, "m"), ("ZSCORE", "z", "m"), ("GET", "none"),
            ("ZRANGE", "z", 0, -1, "WITHSCORES"), ("INFO", "clients"), ("CONFIG", "GET", "max*"),
            ("XADD", "x", "1-1", "f", "v"), ("XRANGE", "x", "-", "+"), ("LPUSH", "h", "x"),
        ]:
            db.ask(*words)
        for kind in ["string", "integer", "double", "null", "array", "set", "map", "attrib",
                     "push", "verbatim", "true", "false", "bignum"]:
            db.ask("DEBUG", "PROTOCOL", kind)
        db.ask("CLIENT", "TRACKING", "ON")
        db.ask("SET", "tracked", 1)
        db.ask("GET", "tracked")
        other.ask("SET", "tracked", 2)  # An invalidation is pushed to `db`.
        time.sleep(0.05)
        db.ask("GET", "tracked")
        other.ask("FLUSHALL")
        time.sleep(0.05)
        db.ask("CLIENT", "TRACKING", "OFF")
        db.ask("HELLO", 2)
        db.ask("HGETALL", "h")
        db.ask("HELLO", 9)
        db.close()
        other.close()


def multi(lab, pcap):
    lab.redis()
    with lab.capture(pcap):
        db, other = Redis(lab.truth), Redis(lab.truth)
        for words in [
            ("MULTI",), ("SET", "a", 1), ("INCR", "a"), ("GET", "a"), ("EXEC",),
            # A command that cannot be queued spoils the whole.
            ("MULTI",), ("SET", "a", 1), ("NOSUCH", "a"), ("GET",), ("EXEC",),
            # One that fails while it runs does not.
            ("MULTI",), ("SET", "text", "x"), ("INCR", "text"), ("EXEC",),
            ("MULTI",), ("SET", "a", 2), ("DISCARD",), ("EXEC",), ("MULTI",), ("MULTI",),
            ("DISCARD",), ("WATCH", "a"),
        ]:
            db.ask(*words)
        other.ask("SET", "a", "changed")
        for words in [("MULTI",), ("SET", "a", 3), ("EXEC",), ("WATCH", "b"), ("UNWATCH",)]:
            db.ask(*words)
        whole = [("MULTI",), ("SADD", "s", "x"), ("SMEMBERS", "s"), ("EXEC",), ("GET", "a")]
        db.send(b"".join(db.encode(*words) for words in whole))
        for words in whole:
            db.note(words, db.answer())
        db.close()
        other.close()


def pubsub(lab, pcap):
    lab.redis()

    def subscribe(db, replies, *words):
        db.send(db.encode(*words))
        for _ in range(replies):
            db.reply()
        lab.truth.redis(words[0], words[1] if len(words) > 1 else "", "OK")

    with lab.capture(pcap):
        for version in (2, 3):
            listener, speaker = Redis(lab.truth), Redis(lab.truth)
            if version == 3:
                listener.ask("HELLO", 3)
            subscribe(listener, 1, "SUBSCRIBE", "news")
            subscribe(listener, 2, "SUBSCRIBE", "sport", "weather")
            subscribe(listener, 1, "PSUBSCRIBE", "new*")
            speaker.ask("PUBLISH", "news", "CANARY-message")
            speaker.ask("PUBLISH", "sport", "x" * 2000)
            speaker.ask("PUBLISH", "nobody", "x")
            for _ in range(3):
                listener.reply()
            # RESP2 answers with an array here, RESP3 as ever.
            subscribe(listener, 1, "PING")
            if version == 3:
                subscribe(listener, 1, "GET", "while-subscribed")
            subscribe(listener, 1, "UNSUBSCRIBE", "news")
            subscribe(listener, 2, "UNSUBSCRIBE")
            subscribe(listener, 1, "PUNSUBSCRIBE")
            listener.ask("SET", "after", "all")
            listener.close()
            speaker.close()


def monitor(lab, pcap):
    lab.redis()
    with lab.capture(pcap):
        watcher, db = Redis(lab.truth), Redis(lab.truth)
        watcher.ask("MONITOR")
        for number in range(20):
            db.ask("SET", f"k:{number}", "CANARY-value")
        db.ask("EVAL", "return redis.call('GET', KEYS[1])", 1, "k:1")
        for _ in range(22):
            watcher.reply()
        watcher.close()
        db.close()


def auth(lab, pcap):
    password = "CANARY-requirepass"
    lab.redis("--requirepass", password)
    with lab.capture(pcap):
        db = Redis(lab.truth)
        db.ask("GET", "k")
        db.ask("AUTH", "CANARY-wrong", secret=True)
        db.ask("AUTH", "default", "CANARY-wrong", secret=True)
        db.ask("HELLO", 3, "AUTH", "default", "CANARY-wrong")
        db.ask("AUTH", password, secret=True)
        db.ask("ACL", "SETUSER", "bob", "on", ">CANARY-bob", "~*", "+@all")
        db.ask("CONFIG", "SET", "masterauth", "CANARY-masterauth")
        db.ask("MIGRATE", "127.0.0.1", 9, "k", 0, 10, "AUTH", "CANARY-migrate")
        db.ask("MIGRATE", "127.0.0.1", 9, "", 0, 10, "AUTH2", "bob", "CANARY-migrate2", "KEYS", "k")
        db.ask("NOSUCH", "key", "CANARY-argument")
        db.ask("SET", "k", "CANARY-value")
        db.ask("GET", "k")
        db.ask("EVAL", "return ARGV[1]", 0, "CANARY-argument")
        db.close()
        bob = Redis(lab.truth)
        bob.ask("HELLO", 3, "AUTH", "bob", "CANARY-bob", "SETNAME", "bob")
        bob.ask("CONFIG", "SET", "requirepass", "CANARY-new")
        bob.ask("AUTH", "bob", "CANARY-bob", secret=True)
        bob.send(b"AUTH bob CANARY-bob\r\n")  # As a person types it.
        bob.note(("AUTH", "bob"), bob.answer(), secret=True)
        bob.close()
        redis_cli(lab.truth, "GET", "k", options=["--no-auth-warning", "-a", "CANARY-new"])
        lab.truth.lines.insert(-1, {"protocol": "redis", "operation": "AUTH", "status": "OK"})


def inline(lab, pcap):
    lab.redis()
    with lab.capture(pcap):
        db = Redis(lab.truth)
        for line, words in [
            (b"PING\r\n", ("PING",)),
            (b"SET foo bar\r\n", ("SET", "foo")),
            (b"get foo\n", ("GET", "foo")),
            (b"\r\n  SET   spaced   out  \r\n", ("SET", "spaced")),
            (b'SET "quoted key" \'single\'\r\n', ("SET", "quoted key")),
            (b'ECHO "\\x41\\n"\r\n', ("ECHO", "A\n")),
            (b"NOSUCH thing\r\n", ("NOSUCH", "thing")),
            (b"LPUSH foo x\r\n", ("LPUSH", "foo")),
        ]:
            db.send(line)
            db.note(words, db.answer())
        db.send(b"PING\r\nPING\r\n" + db.encode("GET", "foo") + b"QUIT\r\n")
        for words in [("PING",), ("PING",), ("GET", "foo"), ("QUIT",)]:
            db.note(words, db.answer())
        db.close()


def reply_off(lab, pcap):
    lab.redis()

    def unanswered(db, *words):
        db.send(db.encode(*words))
        lab.truth.redis(words[0], words[1], "", answered=False)

    with lab.capture(pcap):
        db = Redis(lab.truth)
        db.ask("SET", "k", 0)
        unanswered(db, "CLIENT", "REPLY", "OFF")
        for _ in range(5):
            unanswered(db, "INCR", "k")
        unanswered(db, "LPUSH", "k", "x")
        db.ask("CLIENT", "REPLY", "ON")
        db.ask("GET", "k")
        unanswered(db, "CLIENT", "REPLY", "SKIP")
        unanswered(db, "INCR", "k")
        db.ask("GET", "k")
        whole = [("CLIENT", "REPLY", "SKIP"), ("INCR", "k"), ("GET", "k"), ("INCR", "k")]
        db.send(b"".join(db.encode(*words) for words in whole))
        for words in whole[:2]:
            lab.truth.redis(words[0], words[1], "", answered=False)
        for words in whole[2:]:
            db.note(words, db.answer())
        db.close()


def big_value(lab, pcap):
    lab.redis()
    with lab.capture(pcap, snaplen=256):
        db = Redis(lab.truth)
        db.ask("SET", "big", b"x" * 3_000_000)
        db.ask("STRLEN", "big")
        db.ask("GET", "big")
        db.ask("MGET", "big", "none", "big")
        db.ask("PING")
        db.close()


def midstream(lab, pcap):
    lab.redis()
    db, blocked = Redis(lab.truth), Redis(lab.truth)
    for number in range(3):
        db.ask("SET", f"unseen:{number}", "x")
    blocked.send(blocked.encode("BLPOP", "jobs", 0))
    time.sleep(0.1)
    lab.truth.lines.clear()
    with lab.capture(pcap):
        for number in range(20):
            # Every other one fails: a pairing that is off by one shows.
            db.ask(*("GET", f"seen:{number // 2}") if number % 2
                   else ("LPUSH", f"seen:{number // 2}", "x"))
        # The answer to a request that was sent before the capture began.
        db.ask("RPUSH", "jobs", "work")
        blocked.answer()
        blocked.ask("LLEN", "seen:1")
        blocked.ask("HGET", "seen:1", "f")
        blocked.ask("PING")
        db.close()
        blocked.close()


def scripts(lab, pcap):
    lab.redis()
    with lab.capture(pcap):
        db = Redis(lab.truth)
        sha = db.ask("SCRIPT", "LOAD", "return redis.call('SET', KEYS[1], ARGV[1])").decode()
        for words in [
            ("EVAL", "return {1, 'two', {3, 'four'}}", 0),
            ("EVAL", "return redis.call('INCR', KEYS[1])", 1, "n"),
            ("EVALSHA", sha, 1, "k", "CANARY-value"), ("EVALSHA", "f" * 40, 0),
            ("EVAL", "return redis.error_reply('MYERR ' .. ARGV[1])", 0, "CANARY-detail"),
            ("EVAL", "return redis.call('LPUSH', KEYS[1], 'x')", 1, "k"),
            ("EVAL", "this is not Lua", 0), ("SCRIPT", "EXISTS", sha),
            ("FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('f', function() return 1 end)"),
            ("FCALL", "f", 0), ("FCALL", "nosuch", 0), ("SCRIPT", "FLUSH"),
        ]:
            db.ask(*words)
        db.close()


CASES = {
    "redis/commands": commands,
    "redis/pipelined": pipelined,
    "redis/resp3": resp3,
    "redis/multi": multi,
    "redis/pubsub": pubsub,
    "redis/monitor": monitor,
    "redis/auth": auth,
    "redis/inline": inline,
    "redis/reply-off": reply_off,
    "redis/big-value": big_value,
    "redis/midstream": midstream,
    "redis/scripts": scripts,
}
