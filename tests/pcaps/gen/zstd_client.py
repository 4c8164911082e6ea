"""MySQL's own client library, compressing with Zstandard. Prints what it saw, a JSON object a line.

The library is inside Connector/Python's extension, whose Python side cannot ask for Zstandard:
its C functions are called. Argument: the port.
"""

import ctypes
import json
import sys

import _mysql_connector

# enum mysql_option, enum mysql_ssl_mode, client flags.
SSL_MODE, COMPRESSION_ALGORITHMS, ZSTD_COMPRESSION_LEVEL = 35, 41, 42
SSL_DISABLED = 1
MULTI_STATEMENTS = 1 << 16

C = ctypes.CDLL(_mysql_connector.__file__)
for function in [C.mysql_init, C.mysql_real_connect, C.mysql_use_result, C.mysql_fetch_row,
                 C.mysql_stmt_init]:
    function.restype = ctypes.c_void_p
NULL = ctypes.c_void_p()


def note(operation, target, status):
    print(json.dumps({"protocol": "mysql", "operation": operation, "target": target,
                      "status": str(status or "OK")}))


class Client:
    def __init__(self, port):
        self.handle = ctypes.c_void_p(C.mysql_init(NULL))
        self.option(SSL_MODE, ctypes.byref(ctypes.c_uint(SSL_DISABLED)))
        self.option(COMPRESSION_ALGORITHMS, b"zstd")
        self.option(ZSTD_COMPRESSION_LEVEL, ctypes.byref(ctypes.c_uint(3)))
        connected = C.mysql_real_connect(self.handle, b"127.0.0.1", b"joe", b"CANARY-joe", b"shop",
                                         port, NULL, ctypes.c_ulong(MULTI_STATEMENTS))
        if not connected:
            C.mysql_error.restype = ctypes.c_char_p
            raise SystemExit(C.mysql_error(self.handle))
        note("HANDSHAKE", "", 0)

    def option(self, option, value):
        assert C.mysql_options(self.handle, option, value) == 0

    def errno(self):
        return C.mysql_errno(self.handle)

    def ask(self, sql, *targets):
        """A query; `targets` are its statements as a record shows them."""
        text = sql.encode()
        failed = C.mysql_real_query(self.handle, text, ctypes.c_ulong(len(text)))
        for index, target in enumerate(targets or [sql]):
            failed = C.mysql_next_result(self.handle) if index else failed
            if not failed:
                self.rows()
            note(target.split()[0], target, self.errno())

    def rows(self):
        result = ctypes.c_void_p(C.mysql_use_result(self.handle))
        while result and C.mysql_fetch_row(result):
            pass
        if result:
            C.mysql_free_result(result)

    def ping(self):
        C.mysql_ping(self.handle)
        note("PING", "", self.errno())

    def select_db(self, schema):
        C.mysql_select_db(self.handle, schema.encode())
        note("INIT_DB", schema, self.errno())

    def prepared(self, sql, target):
        """Prepares and executes a statement without parameters, and closes it."""
        statement = ctypes.c_void_p(C.mysql_stmt_init(self.handle))
        C.mysql_stmt_prepare(statement, sql.encode(), ctypes.c_ulong(len(sql)))
        note("PREPARE", target, C.mysql_stmt_errno(statement))
        C.mysql_stmt_execute(statement)
        C.mysql_stmt_store_result(statement)
        note(target.split()[0], target, C.mysql_stmt_errno(statement))
        C.mysql_stmt_close(statement)

    def close(self):
        C.mysql_close(self.handle)


def main():
    db = Client(int(sys.argv[1]))
    db.ask("CREATE TABLE IF NOT EXISTS items (id INT PRIMARY KEY, name TEXT)")
    db.ask("INSERT INTO items VALUES (1, 'CANARY one'), (2, 'CANARY two')",
           "INSERT INTO items VALUES (?, ?), (?, ?)")
    db.ask("SELECT * FROM items")
    db.ask("SELECT REPEAT('CANARY', 200000)", "SELECT REPEAT(?, ?)")
    db.ask("SELECT seq, MD5(seq) FROM seq_1_to_3000")
    # A value of which little repeats: many blocks.
    db.ask("SELECT GROUP_CONCAT(MD5(seq)) FROM seq_1_to_9000")
    db.ask("SELECT nothing FROM items")
    db.ask(f"SELECT LENGTH('{'CANARY' * 2000}')", "SELECT LENGTH(?)")
    db.ask("SELECT 1; UPDATE items SET name = 'CANARY'; SELECT * FROM items WHERE name = 'CANARY'",
           "SELECT ?;", "UPDATE items SET name = ?;", "SELECT * FROM items WHERE name = ?")
    db.ping()
    db.select_db("no_such_schema")
    db.prepared("SELECT * FROM items WHERE id > 1", "SELECT * FROM items WHERE id > ?")
    db.ask("DROP TABLE items")
    db.close()


if __name__ == "__main__":
    main()
