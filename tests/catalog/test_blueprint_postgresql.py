"""The PostgreSQL blueprint on a real server."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.kinds.blueprint import Blueprint
from reconciler.kinds.loader import load
from tests.support.postgres import PostgresServer, postgres_server

pytestmark = pytest.mark.real
FILE = Path(__file__).resolve().parents[2] / "blueprints/postgresql/blueprint.yaml"


@pytest.fixture(scope="module")
def server():
    with postgres_server() as running:
        yield running


@pytest.fixture
def shop(server: PostgresServer):
    """A database with what makes restores hard: keys, sequences, views, functions, large objects, extra schemas."""
    server.run(["dropdb", "--force", "--if-exists", "shop", "--maintenance-db=postgres"])
    assert server.run(["createdb", "--maintenance-db=postgres", "shop"]).returncode == 0
    server.sql("""
        create schema stock;
        create type stock.size as enum ('s', 'l');
        create table public.customer (id serial primary key, name text not null unique);
        create table public.orders (id serial primary key, customer int references customer, note text, size stock.size);
        create view public.latest as select max(id) as id from orders;
        create materialized view stock.per_customer as select customer, count(*) as n from orders group by customer;
        create function stock.twice(n int) returns int language sql as 'select n * 2';
        create index on orders (note);
        insert into customer (name) select 'customer ' || n from generate_series(1, 50) n;
        insert into orders (customer, note, size) select 1 + n % 50, 'tab' || chr(9) || 'line' || chr(10) || n, 'l' from generate_series(1, 2000) n;
        refresh materialized view stock.per_customer;
        select lo_from_bytea(4711, 'a large object');
        create publication changes for table orders;
    """)
    return server


@pytest.fixture(scope="module")
def blueprint() -> Blueprint:
    kind = load(str(FILE), FILE.read_bytes()).manifests[0].kind
    assert isinstance(kind, Blueprint)
    return kind


def run(server: PostgresServer, blueprint: Blueprint, action: str, data: bytes | None = None):
    """Run the phases of an action, each as an exec of its own; stdout of the last and every exit code."""
    results = []
    for phase in getattr(blueprint.spec.actions, action).phases:
        step = phase.stream or phase.exec
        results.append(server.run(step.command, data=data if phase.stream else None))
        if results[-1].returncode != 0:
            break
    return results


def dump(server: PostgresServer, blueprint: Blueprint) -> bytes:
    (result,) = run(server, blueprint, "backup")
    assert result.returncode == 0, result.stderr
    return result.stdout


def contents(server: PostgresServer) -> list[list[str]]:
    """Everything that must come back, as rows."""
    return server.sql("""
        select 'customer', count(*), md5(string_agg(id || name, ',' order by id)) from customer
        union all select 'orders', count(*), md5(string_agg(id || note || size || customer, ',' order by id)) from orders
        union all select 'view', id, '' from latest
        union all select 'materialized', count(*), md5(string_agg(customer || ':' || n, ',' order by customer)) from stock.per_customer
        union all select 'function', stock.twice(21), ''
        union all select 'large', 4711, convert_from(lo_get(4711), 'UTF8')
        union all select 'sequence', last_value, '' from orders_id_seq
        union all select 'tables', count(*), string_agg(relname, ',' order by relname) from pg_class c join pg_namespace n on n.oid = relnamespace where nspname !~ '^pg_' and nspname <> 'information_schema' and relkind in ('r','v','m','S','i')
        union all select 'publications', count(*), string_agg(pubname, ',') from pg_publication
        union all select 'schemas', count(*), string_agg(nspname || coalesce(nspacl::text, '') || nspowner::regrole, ',' order by nspname) from pg_namespace where nspname !~ '^pg_'
    """)


def test_a_restore_gives_back_exactly_what_was_captured(shop, blueprint):
    """Rows, sequences, views, functions and large objects are as captured, and what came later is gone."""
    before = contents(shop)
    artifact = dump(shop, blueprint)
    shop.sql("""
        delete from orders where id % 2 = 0; update customer set name = 'x' || id; drop view latest; drop publication changes;
        create table public.later (id int primary key references customer); insert into later values (1);
        create schema afterwards; create table afterwards.t (a int); alter table orders add column extra int;
        select lo_unlink(4711); select lo_from_bytea(42, 'later'); create publication later for all tables;
    """)

    results = run(shop, blueprint, "restore", artifact)

    assert [r.returncode for r in results] == [0, 0], results[0].stderr
    assert contents(shop) == before
    assert shop.sql("select count(*) from pg_largeobject_metadata") == [["1"]]


def test_restoring_twice_appends_nothing(shop, blueprint):
    """A second restore of the same artifact changes nothing."""
    before = contents(shop)
    artifact = dump(shop, blueprint)

    for _ in range(2):
        assert [r.returncode for r in run(shop, blueprint, "restore", artifact)] == [0, 0]

    assert contents(shop) == before


def test_an_empty_server_can_be_filled(shop, blueprint):
    """A database that was just made takes the contents."""
    before = contents(shop)
    artifact = dump(shop, blueprint)
    shop.run(["dropdb", "--force", "shop", "--maintenance-db=postgres"])
    assert shop.run(["createdb", "--maintenance-db=postgres", "shop"]).returncode == 0

    assert [r.returncode for r in run(shop, blueprint, "restore", artifact)] == [0, 0]
    assert contents(shop) == before


@pytest.mark.parametrize("part", [0.0, 0.02, 0.3, 0.5, 0.9, 0.999])
def test_a_dump_that_is_cut_short_changes_nothing(shop, blueprint, part):
    """However much of it arrives, the restore fails and the database stays as it was."""
    artifact = dump(shop, blueprint)
    shop.sql("insert into customer (name) values ('came later')")
    before = contents(shop)

    (result,) = run(shop, blueprint, "restore", artifact[: int(len(artifact) * part)])

    assert result.returncode != 0
    assert contents(shop) == before


def test_a_dump_is_one_moment_while_others_write(shop, blueprint):
    """Rows that belong together are captured together, whatever is written meanwhile."""
    import threading

    stop = threading.Event()

    def write():
        while not stop.is_set():
            shop.sql(
                "begin; insert into customer (name) values (clock_timestamp()::text); "
                "insert into orders (customer, note, size) select max(id), 'paired', 's' from customer; commit"
            )

    writer = threading.Thread(target=write)
    writer.start()
    try:
        artifact = dump(shop, blueprint)
    finally:
        stop.set()
        writer.join()
    assert [r.returncode for r in run(shop, blueprint, "restore", artifact)] == [0, 0]

    assert shop.sql("select count(*) - 50 from customer") == shop.sql(
        "select count(*) from orders where note = 'paired'"
    )


def test_quiesce_and_verify_answer(shop, blueprint):
    """Both end well on a sound server; verify fails when the server is away."""
    assert [r.returncode for r in run(shop, blueprint, "quiesce")] == [0]
    assert [r.returncode for r in run(shop, blueprint, "verify")] == [0]

    away = PostgresServer({**shop.env, "PGPORT": "1"}, shop.user)
    assert run(away, blueprint, "verify")[0].returncode != 0
    assert run(away, blueprint, "backup")[0].returncode != 0
    assert run(away, blueprint, "restore", b"")[0].returncode != 0
