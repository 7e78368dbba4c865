"""Takes orders from the cache and writes them to the database; leaves at once when it is told to."""
import os
import signal
import sys

import psycopg2
import redis

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
cache = redis.Redis(os.environ["CACHE"])
database = psycopg2.connect(os.environ["DATABASE"])
database.autocommit = True
cursor = database.cursor()
cursor.execute("CREATE TABLE IF NOT EXISTS orders (id serial PRIMARY KEY, what text NOT NULL)")
print("worker: ready")
while True:
    _, what = cache.blpop("orders")
    cursor.execute("INSERT INTO orders (what) VALUES (%s)", (what.decode(),))
    print("worker: wrote", what.decode())
