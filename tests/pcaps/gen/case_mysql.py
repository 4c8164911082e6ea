"""The MySQL cases: MariaDB; a raw client in Python, which sees every packet. For Zstandard, which
MariaDB does not speak, MySQL's own library and a relay.

Every secret and every value that must not leave the parser contains the word CANARY.
"""

import json
import struct
import subprocess

from lab import HERE, MARIADB_PORT, Environment
from mysql_client import COMPRESS, DEPRECATE_EOF, MySql

# Cases recorded with the loopback's large frames, as a host's own capture of its traffic has them.
WITH_OFFLOADS = {"mysql/big-packet"}

RELAY_PORT = 13307
# The last connector whose library needs no newer OpenSSL than it brings.
CLIENT = Environment("mysql-connector-python==8.4.0", "zstandard==0.25.0")

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def tables(db):
    db.ask("CREATE TABLE IF NOT EXISTS items (id INT PRIMARY KEY, name TEXT)")
    db.ask("INSERT INTO items VALUES (1, 'CANARY one'), (2, 'CANARY two')",
           "INSERT INTO items VALUES (?, ?), (?, ?)")


def text(lab, pcap):
    lab.mariadb()
    with lab.capture(pcap):
        for flags in (0, DEPRECATE_EOF):
            db = MySql(lab.truth, flags)
            tables(db)
            db.ask("SELECT * FROM items WHERE name = 'CANARY one'", "SELECT * FROM items WHERE name = ?")
            db.ask("SELECT name FROM items LIMIT 0", "SELECT name FROM items LIMIT ?")
            db.ask("UPDATE items SET name = 'CANARY' WHERE id = 1",
                   "UPDATE items SET name = ? WHERE id = ?")
            db.command(0x0E, "PING")
            db.command(0x09, "STATISTICS")
            db.command(0x02, "INIT_DB", "shop", b"shop")
            db.ask("USE shop")
            db.ask("DROP TABLE items")
            db.close()


def errors(lab, pcap):
    lab.mariadb()
    with lab.capture(pcap):
        db = MySql(lab.truth)
        tables(db)
        db.ask("INSERT INTO items VALUES (1, 'CANARY')", "INSERT INTO items VALUES (?, ?)")
        db.ask("SELECT nothing FROM items")
        db.ask("SELECT id FROM no_such_table")
        db.ask("SELECT FROM")
        db.command(0x02, "INIT_DB", "no_such_schema", b"no_such_schema")
        db.prepare("SELECT id FROM no_such_table WHERE id = ?")
        db.execute(4711, "")
        db.close()
        MySql(lab.truth, password="CANARY-wrong").sock.close()
        MySql(lab.truth, schema="no_such_schema").sock.close()


def prepared(lab, pcap):
    lab.mariadb()
    with lab.capture(pcap):
        for flags in (0, DEPRECATE_EOF):
            db = MySql(lab.truth, flags)
            tables(db)
            select, insert = "SELECT * FROM items WHERE id > ?", "INSERT INTO items VALUES (?, ?)"
            first, second = db.prepare(select), db.prepare(insert)
            db.execute(second, insert, 3, "CANARY three")
            db.execute(first, select, 0)
            db.execute(first, select, 1)
            db.execute(second, insert, 3, "CANARY again")
            db.tell(struct.pack("<BIH", 0x18, second, 1) + b"CANARY long")
            db.command(0x1A, "RESET", "", struct.pack("<I", second))
            cursor = db.prepare("SELECT id FROM items")
            db.execute(cursor, "SELECT id FROM items", cursor=1)
            db.fetch(cursor, 2, "SELECT id FROM items")
            db.fetch(cursor, 2, "SELECT id FROM items")
            db.tell(struct.pack("<BI", 0x19, first))
            db.execute(first, "", 1)
            db.command(0x1F, "RESET_CONNECTION")
            db.execute(second, "", 1)
            db.ask("DROP TABLE items")
            db.close()


def infile(lab, pcap):
    lab.mariadb()
    with lab.capture(pcap):
        db = MySql(lab.truth)
        tables(db)
        target = "LOAD DATA LOCAL INFILE ? INTO TABLE items"
        lines = [f"{n}\tCANARY {n}\n".encode() for n in range(10, 310)]
        parts = [b"".join(lines[n:n + 100]) for n in range(0, 300, 100)]
        db.ask("LOAD DATA LOCAL INFILE 'CANARY' INTO TABLE items", target, files=parts)
        db.ask("LOAD DATA LOCAL INFILE 'none' INTO TABLE items", target)
        db.ask("SELECT COUNT(*) FROM items")
        db.close()


def call(lab, pcap):
    lab.mariadb()
    with lab.capture(pcap):
        for flags in (0, DEPRECATE_EOF):
            db = MySql(lab.truth, flags)
            body = "BEGIN SELECT 1; SELECT 2, 3; END"
            shown = "BEGIN SELECT ?; SELECT ?, ?; END"
            db.ask(f"CREATE PROCEDURE two() {body}", f"CREATE PROCEDURE two() {shown}")
            db.ask("CALL two()")
            db.ask("CALL none()")
            number = db.prepare("CALL two()")
            db.execute(number, "CALL two()")
            db.ask("DROP PROCEDURE two")
            db.close()


def multi(lab, pcap):
    lab.mariadb()
    with lab.capture(pcap):
        for flags in (0, DEPRECATE_EOF):
            db = MySql(lab.truth, flags)
            db.ask("SELECT 1; DO 2; SELECT 3", "SELECT ?;", "DO ?;", "SELECT ?")
            db.ask("DO 1; SELECT nothing; SELECT 2; DO 3", "DO ?;", "SELECT nothing;", "SELECT ?;", "DO ?")
            db.ask("SELECT 'CANARY;';", "SELECT ?;")
            db.ask("BEGIN NOT ATOMIC SELECT 1; SELECT 2; END", "BEGIN NOT ATOMIC SELECT ?; SELECT ?; END")
            db.close()


def compressed(lab, pcap):
    lab.mariadb()
    with lab.capture(pcap):
        db = MySql(lab.truth, DEPRECATE_EOF | COMPRESS)
        tables(db)
        db.ask("SELECT * FROM items")
        db.ask("SELECT REPEAT('CANARY', 200000)", "SELECT REPEAT(?, ?)")
        db.ask("SELECT seq, 'CANARY' FROM seq_1_to_3000", "SELECT seq, ? FROM seq_1_to_3000")
        db.ask("SELECT nothing FROM items")
        db.ask(f"SELECT LENGTH('{'CANARY' * 2000}')", "SELECT LENGTH(?)")
        number = db.prepare("SELECT * FROM items WHERE id = ?")
        db.execute(number, "SELECT * FROM items WHERE id = ?", 1)
        db.close()


def zstd(lab, pcap):
    lab.mariadb()
    lab.start([CLIENT.python, HERE / "zstd_relay.py", str(RELAY_PORT), str(MARIADB_PORT)], RELAY_PORT)
    with lab.capture(pcap, filter=f"tcp port {RELAY_PORT}"):
        done = subprocess.run([CLIENT.python, HERE / "zstd_client.py", str(RELAY_PORT)], check=True,
                              stdout=subprocess.PIPE, text=True)
    lab.truth.lines += [json.loads(line) for line in done.stdout.splitlines()]


def traceparent(lab, pcap):
    lab.mariadb()
    with lab.capture(pcap):
        db = MySql(lab.truth)
        comment = f"/*traceparent='{TRACEPARENT}',tracestate='a%3D1'*/"
        db.ask(f"SELECT 1 {comment}", "SELECT ?", traceparent=TRACEPARENT)
        db.ask(f"{comment} SELECT nothing", "SELECT nothing", traceparent=TRACEPARENT)
        db.ask("SELECT 2 /* traceparent='00-nothing' */", "SELECT ?")
        db.close()


def big_packet(lab, pcap):
    lab.mariadb()
    with lab.capture(pcap, snaplen=256):
        db = MySql(lab.truth)
        # A statement of 15 MB: as much as one packet holds, nearly.
        # Most of it is not captured, so a record cannot have its text.
        db.tell(b"\x03DO LENGTH('" + b"CANARY" * 2500000 + b"')")
        db.note("DO", None, db.results()[-1])
        db.ask("SELECT 1", "SELECT ?")
        db.close()


def midstream(lab, pcap):
    lab.mariadb()
    connections = [MySql(lab.truth, flags) for flags in (0, DEPRECATE_EOF)]
    tables(connections[0])
    numbers = [db.prepare("SELECT * FROM items WHERE id = ?") for db in connections]
    lab.truth.lines.clear()
    with lab.capture(pcap):
        for db, number in zip(connections, numbers):
            db.execute(number, "", 1)
            db.ask("SELECT * FROM items")
            db.ask("SELECT nothing FROM items")
            db.prepare("DELETE FROM items WHERE id = ?")
            db.command(0x0E, "PING")
            db.close()


CASES = {f"mysql/{name.__name__.replace('_', '-')}": name
         for name in [text, errors, prepared, infile, call, multi, compressed, zstd,
                      traceparent, big_packet, midstream]}

# What has to be installed for a case.
NEEDS = {"mysql/zstd": CLIENT}
