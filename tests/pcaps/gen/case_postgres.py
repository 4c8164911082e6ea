"""The PostgreSQL cases: PostgreSQL 15; psql and Python as clients.

Every secret and every value that must not leave the parser contains the word CANARY.
"""

import time

from postgres_client import (FLUSH, SSL_REQUEST, SYNC, Postgres, bind, close, describe,
                             execute, extended, message, parse, psql, query)

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-{:016x}-01"


def simple(lab, pcap):
    lab.postgres()
    with lab.capture(pcap):
        db = Postgres(lab.truth, asks=[SSL_REQUEST])
        db.ask("CREATE TABLE songs (id int PRIMARY KEY, title text, length numeric)")
        db.ask("INSERT INTO songs VALUES (1, 'CANARY', 1.5e2), (2, $$CANARY$$, -3)",
               "INSERT INTO songs VALUES (?, ?, ?), (?, ?, ?)")
        db.ask("select title from songs where id in (1, 2) order by length",
               "select title from songs where id in (?, ?) order by length")
        db.ask("SELECT * FROM songs AS s JOIN songs AS t USING (id);")
        db.ask("UPDATE songs SET title = E'it\\'s CANARY' WHERE id = 1",
               "UPDATE songs SET title = ? WHERE id = ?")
        for sql, target in [
            ("INSERT INTO songs VALUES (1, 'CANARY', 0)", "INSERT INTO songs VALUES (?, ?, ?)"),
            ("SELECT nothing FROM songs", None), ("SELECT 1/0", "SELECT ?/?"), ("SELEC 1", "SELEC ?"),
            ("SELECT 'CANARY", "?"),
        ]:
            db.ask(sql, target)
        # Several statements in one query; behind an error, none runs.
        db.send(query("BEGIN; DELETE FROM songs WHERE id = 2; COMMIT;"))
        for operation, target in [("BEGIN", "BEGIN"), ("DELETE", "DELETE FROM songs WHERE id = ?"),
                                  ("COMMIT", "COMMIT")]:
            db.note(operation, target, db.outcome())
        db.ready()
        db.send(query("SELECT 1; SELECT 1/0; SELECT 3"))
        db.note("SELECT", "SELECT ?", db.outcome())
        db.note("SELECT", "SELECT ?/?", db.outcome())
        db.ready()
        db.note("SELECT", "SELECT ?", "")
        # A notice, an empty query, a notification, secrets.
        db.ask("DROP TABLE IF EXISTS nothing")
        db.send(query(""))
        db.note("", "", db.outcome())
        db.ready()
        db.ask("LISTEN news")
        db.ask("NOTIFY news, 'CANARY'", "NOTIFY news, ?")
        db.ask("DO $x$ BEGIN RAISE NOTICE 'CANARY'; END $x$", "DO ?")
        admin = Postgres(lab.truth, user="admin", password=None)
        admin.ask("ALTER ROLE joe PASSWORD 'CANARY-joe'", "ALTER ROLE joe PASSWORD ?")
        admin.ask("SET application_name = 'shop'", "SET application_name = ?")
        admin.close()
        db.close()
        Postgres(lab.truth, password="CANARY-wrong").socket.close()
        psql(lab.truth, ("SELECT count(*) FROM songs", "SELECT count(*) FROM songs", "OK"),
             ("VALUES (1)", "VALUES (?)", "OK"), ("TABLE nothing", "TABLE nothing", "42P01"))


def large(lab, pcap):
    """A row and a parameter that nobody needs to see, and many rows."""
    lab.postgres()
    with lab.capture(pcap):
        db = Postgres(lab.truth)
        db.ask("SELECT repeat('CANARY', 40000)", "SELECT repeat(?, ?)")
        db.run("SELECT length($1)", "CANARY" * 30_000)
        db.ask("SELECT repeat('CANARY', 10) FROM generate_series(1, 1000)",
               "SELECT repeat(?, ?) FROM generate_series(?, ?)")
        db.ask(f"INSERT INTO nothing VALUES ('{'CANARY' * 10_000}')",
               "INSERT INTO nothing VALUES (?")  # Cut: the flag says so.
        db.close()


def extended_queries(lab, pcap):
    lab.postgres()
    with lab.capture(pcap):
        db = Postgres(lab.truth)
        db.run("SELECT $1::int + 1", 1, target="SELECT $1::int + ?")
        db.run("SELECT $1::int", "CANARY")
        select = "SELECT n FROM generate_series(1, $1::int) AS n"
        shown = "SELECT n FROM generate_series(?, $1::int) AS n"
        # Prepared once, executed often, closed.
        db.send(parse("s1", select) + describe("S", "s1") + SYNC)
        db.note("PREPARE", shown, "OK")
        db.ready()
        for count in (1, 2, 3):
            db.send(bind("", "s1", count) + execute() + SYNC)
            db.note("SELECT", shown, db.outcome())
            db.ready()
        # A portal that is suspended twice.
        db.send(bind("p1", "s1", 5))
        for _ in range(3):
            db.send(execute("p1", 2) + FLUSH)
            db.note("SELECT", shown, db.outcome())
        db.send(close("P", "p1") + close("S", "s1") + SYNC)
        db.note("CLOSE", None, "OK")
        db.note("CLOSE", None, "OK")
        db.ready()
        # What is not there any more, and what never was.
        db.send(bind("", "s1", 1) + execute() + SYNC)
        db.note("", None, db.outcome())
        db.ready()
        db.send(parse("s2", "SELECT nothing") + describe("S", "s2") + SYNC)
        db.note("PREPARE", "SELECT nothing", db.outcome())
        db.ready()
        # Described before it is bound, as asyncpg does.
        db.send(parse("", "SELECT 1") + describe("S", "") + FLUSH)
        db.note("PREPARE", "SELECT ?", "OK")
        db.until((b"T",))
        db.send(bind("", "") + execute() + SYNC)
        db.note("SELECT", "SELECT ?", db.outcome())
        db.ready()
        # A function by its number: int4pl.
        arguments = b"\0\0\0\x04\0\0\0\x01\0\0\0\x04\0\0\0\x02"
        db.send(message(b"F", b"\0\0\0\xb1\0\x01\0\x01\0\x02" + arguments + b"\0\x01"))
        db.note("FUNCTION_CALL", None, db.outcome((b"V", b"E")))
        db.ready()
        db.close()


def pipelined(lab, pcap):
    lab.postgres()
    with lab.capture(pcap):
        db = Postgres(lab.truth)
        db.ask("CREATE TABLE t (n int)")
        for _ in range(3):
            statements = [(f"INSERT INTO t VALUES ($1) RETURNING n AS n{n}", n) for n in range(100)]
            db.send(b"".join(extended(*statement) for statement in statements) + SYNC)
            for sql, _ in statements:
                db.note("INSERT", sql, db.outcome())
            db.ready()
        # Three batches in one write; the second fails in its middle.
        batches = [["SELECT 'a'", "SELECT 'b'"], ["SELECT 1", "SELECT nothing", "SELECT 2", "SELECT 3"],
                   ["SELECT 4"]]
        db.send(b"".join(b"".join(map(extended, batch)) + SYNC for batch in batches))
        for batch in batches:
            failed = False
            for sql in batch:
                status = "" if failed else db.outcome()
                failed = status not in ("", "OK") or failed
                db.note("SELECT", "SELECT nothing" if "nothing" in sql else "SELECT ?", status)
            db.ready()
        # Simple queries without waiting.
        db.send(b"".join(query(f"SELECT n FROM t LIMIT {n}") for n in range(20)))
        for _ in range(20):
            db.note("SELECT", "SELECT n FROM t LIMIT ?", db.outcome())
            db.ready()
        db.close()


def copy(lab, pcap):
    lab.postgres()
    with lab.capture(pcap):
        db = Postgres(lab.truth)
        db.ask("CREATE TABLE t (n int, s text)")
        rows = b"".join(message(b"d", b"%d\tCANARY\n" % n) for n in range(200))
        for end in (message(b"c"), message(b"f", b"CANARY\0")):
            db.send(query("COPY t FROM STDIN"))
            db.until((b"G",))
            db.send(rows + end)
            db.note("COPY", "COPY t FROM STDIN", db.outcome())
            db.ready()
        # In an extended query: the first Sync is swallowed, as libpq knows.
        db.send(extended("COPY t FROM STDIN") + SYNC)
        db.until((b"G",))
        db.send(rows + message(b"c") + SYNC)
        db.note("COPY", "COPY t FROM STDIN", db.outcome())
        db.ready()
        db.ask("COPY t TO STDOUT")
        db.run("COPY (SELECT n FROM t) TO STDOUT")
        db.ask("COPY t FROM '/CANARY'", "COPY t FROM ?")
        db.close()
        # Replication: both sides copy until the client ends it.
        standby = Postgres(lab.truth, user="admin", password=None, replication="true")
        standby.ask("IDENTIFY_SYSTEM")
        standby.send(query("START_REPLICATION PHYSICAL 0/1000000"))
        standby.until((b"W",))
        standby.note("START_REPLICATION", None, "OK")
        standby.until((b"d",))
        standby.send(message(b"c"))
        standby.ready()
        standby.ask("IDENTIFY_SYSTEM")
        standby.close()


def cancel(lab, pcap):
    lab.postgres()
    with lab.capture(pcap):
        db = Postgres(lab.truth)
        db.send(query("SELECT pg_sleep(10)"))
        time.sleep(0.1)
        db.cancel()
        db.note("SELECT", "SELECT pg_sleep(?)", db.outcome())
        db.ready()
        db.ask("SELECT 1", "SELECT ?")
        # The server ends a connection that waits, and one that does not.
        idle, busy = Postgres(lab.truth, application_name="ended"), Postgres(lab.truth, application_name="ended")
        busy.send(query("SELECT pg_sleep(10)"))
        time.sleep(0.1)
        db.ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ended'",
               "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = ?")
        busy.note("SELECT", "SELECT pg_sleep(?)", busy.outcome())
        idle.until((b"E",))
        db.close()


def traceparent(lab, pcap):
    lab.postgres()
    with lab.capture(pcap):
        db = Postgres(lab.truth)
        forms = ["SELECT 1 /*traceparent='{}'*/", "SELECT 1 /*action='x',traceparent='{}',tracestate='a%3D1'*/",
                 "/* traceparent: {} */ SELECT 1", "SELECT 1 -- traceparent: {}"]
        for number, form in enumerate(forms, 1):
            parent = PARENT.format(number)
            db.ask(form.format(parent), "SELECT ?", traceparent=parent)
            parent = PARENT.format(number + 100)
            db.run(form.format(parent), target="SELECT ?", traceparent=parent)
        db.ask(f"SELECT '/*traceparent={PARENT.format(99)}*/'", "SELECT ?")
        db.ask("SELECT 1 /*traceparent='00-0-0-00'*/", "SELECT ?")
        db.close()


def midstream(lab, pcap):
    lab.postgres()
    db, other = Postgres(lab.truth, noted=False), Postgres(lab.truth, noted=False)
    db.send(parse("before", "SELECT $1::int") + SYNC)
    db.ready()
    other.send(query("SELECT pg_sleep(0.5)"))
    with lab.capture(pcap):
        db.truth = other.truth = lab.truth
        other.ready()  # Its beginning is not in the capture.
        for n in range(5):
            db.send(bind("", "before", n) + execute() + SYNC)
            db.note("", None, db.outcome())
            db.ready()
            db.ask("SELECT nothing")
            db.run("SELECT $1::text", "CANARY")
        for sql in ["BEGIN", "SELECT now()", "COMMIT"]:
            other.ask(sql)
        db.close()
        other.close()


CASES = {
    "postgresql/simple": simple,
    "postgresql/extended": extended_queries,
    "postgresql/pipelined": pipelined,
    "postgresql/copy": copy,
    "postgresql/cancel": cancel,
    "postgresql/traceparent": traceparent,
    "postgresql/midstream": midstream,
    "postgresql/large": large,
}

# Cases recorded with the loopback's large frames, as a host's own capture of its traffic has them.
WITH_OFFLOADS = {"postgresql/large"}
