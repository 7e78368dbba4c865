# The database server in the foreground; makes its files at the first start.
set -e
PATH=$PATH:$(echo /usr/lib/postgresql/*/bin)
if [ ! -e "$PGDATA/PG_VERSION" ]; then
  initdb -A trust -N >/dev/null
  echo 'host all all all trust' >>"$PGDATA/pg_hba.conf"
fi
exec postgres -c listen_addresses='*' -c fsync=off -k /tmp
