"""Queries PostgreSQL with psycopg2 and with psycopg: PORT COUNT. Prints how many rows came."""

import sys
import time

import psycopg
import psycopg2

port, count = sys.argv[1:]
place = f"host=127.0.0.1 port={port} user=admin dbname=shop sslmode=require"
rows = 0
# Both bring libraries that nobody has mapped yet: those take a moment to be found and probed.
time.sleep(3)
with psycopg2.connect(place) as connection:
    connection.autocommit = True
    cursor = connection.cursor()
    for number in range(int(count)):
        cursor.execute("SELECT version(), %s", (number,))
        rows += len(cursor.fetchall())
connection.close()
with psycopg.connect(place, autocommit=True) as connection:
    for number in range(int(count)):
        rows += len(connection.execute("SELECT current_user, %s::int", (number,)).fetchall())
print(rows)
