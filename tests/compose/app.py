"""The shop: counts visits in the cache, hands orders to the worker, and shows what is in the database."""
import json
import os
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg2
import redis

cache = redis.Redis(os.environ["CACHE"])


def orders():
    with psycopg2.connect(os.environ["DATABASE"]) as database, database.cursor() as cursor:
        cursor.execute("SELECT to_regclass('orders') IS NOT NULL")
        if not cursor.fetchone()[0]:
            return []
        cursor.execute("SELECT what FROM orders ORDER BY id")
        return [row[0] for row in cursor.fetchall()]


class Shop(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/health":
            return self.answer({"ok": True})
        if self.path.startswith("/order/"):
            cache.rpush("orders", self.path.removeprefix("/order/"))
        self.answer({"host": socket.gethostname(), "visits": cache.incr("visits"), "orders": orders()})

    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, form, *args):
        print("shop:", form % args)


ThreadingHTTPServer(("0.0.0.0", 8000), Shop).serve_forever()
