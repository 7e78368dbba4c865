"""Run by hand (profile `tools`): how many orders there are."""
import os

import psycopg2

with psycopg2.connect(os.environ["DATABASE"]) as database, database.cursor() as cursor:
    cursor.execute("SELECT count(*) FROM orders")
    print("orders:", cursor.fetchone()[0])
