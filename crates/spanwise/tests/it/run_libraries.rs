//! Popular libraries under `spanwise run`, each called once: what each becomes in the trace. The table of
//! `docs/instrumentation.md` names those that are here.

use serde_json::Value as Json;

use super::harness::Server;
use super::run::service;
use super::run_brokers::Redis;
use super::run_programs::{below, find, get, one, spans};

/// A program that calls its libraries below one span and ends. Answers its trace, and what it printed.
fn called(words: &[&str], count: usize) -> (Vec<Json>, String) {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(&home.path().join("data"), &[]);
    let redis = Redis::start();
    let run = service(home.path(), &server, "libraries", words, &[("REDIS_URL", redis.url.clone())]);
    let (status, out, err) = run.end();
    assert_eq!((status, out.lines().last()), (Some(0), Some("DONE")), "{err}");
    (spans(&server, "{ name = \"all of them\" }", count), out)
}

/// Client and server spans of a request to each of these routes, one below the other and below the root.
fn check_requests(all: &[Json], root: &Json, servers: &[&str]) {
    for name in servers {
        let of_server = one(all, "libraries", "server", name);
        let of_client = all.iter().find(|span| span["span_id"] == of_server["parent_span_id"]).unwrap();
        assert_eq!((&of_client["kind"], &of_client["parent_span_id"]), (&"client".into(), &root["span_id"]), "{name}");
    }
}

/// By its present or its former name.
fn check_database(span: &Json, system: &str) {
    let attributes = &span["attributes"];
    let found = attributes.get("db.system.name").or(attributes.get("db.system"));
    assert_eq!(found, Some(&system.into()), "{span}");
}

#[test]
fn libraries_of_python() {
    let (all, _) = called(&["venv/bin/python", "libraries.py"], 14);
    let root = one(&all, "libraries", "internal", "all of them");
    // aiohttp, Starlette called by httpx, Tornado called by urllib.
    check_requests(&all, root, &["GET /aio/{name}", "GET /star/{name}", "GET /tornado/{name}"]);
    for (name, system) in [("select", "sqlite"), ("SET", "redis")] {
        check_database(below(&all, root, "libraries", "client", name), system);
    }
    let sent = below(&all, root, "libraries", "producer", "apply_async/add");
    assert_eq!(one(&all, "libraries", "consumer", "run/add")["parent_span_id"], sent["span_id"]);
}

#[test]
fn libraries_of_node() {
    let (all, out) = called(&["node", "libraries.cjs"], 11);
    let root = one(&all, "libraries", "internal", "all of them");
    // Koa, Hapi, and Fastify, which OpenTelemetry's package leaves to a plug-in of Fastify's: no route.
    check_requests(&all, root, &["GET /koa/:name", "GET /hapi/{name}", "GET"]);
    for name in ["set", "redis-GET"] {
        check_database(below(&all, root, "libraries", "client", name), "redis");
    }
    let logged: Json = serde_json::from_str(out.lines().find(|line| line.contains("counted")).unwrap()).unwrap();
    assert_eq!(logged["trace_id"].as_str().map(str::len), Some(32), "winston writes ids: {logged}");
}

/// Spring Boot with Tomcat, JDBC and Jedis; logback writes the trace's id.
#[test]
fn libraries_of_java() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(&home.path().join("data"), &[]);
    let redis = Redis::start();
    let words = ["java", "-XX:TieredStopAtLevel=1", "-cp", "spring-classes:spring/*", "Library"];
    let mut run = service(home.path(), &server, "library", &words, &[("REDIS_URL", redis.url.clone())]);
    let port = run.port();
    assert_eq!(get(port, "/books/7", &[]), (200, "Walden".to_owned()));
    let all = spans(&server, "{ name = \"GET /books/{id}\" }", 6);
    let root = one(&all, "library", "server", "GET /books/{id}");
    let inner = below(&all, root, "library", "server", "GET /titles/{id}");
    assert_eq!(inner["parent_span_id"], below(&all, root, "library", "client", "GET")["span_id"]);
    let statement = |span: &&Json| span["kind"] == "client" && span["name"].as_str().unwrap().starts_with("SELECT ");
    assert_eq!(all.iter().find(statement).unwrap()["parent_span_id"], inner["span_id"]);
    let insert = |span: &&Json| span["kind"] == "client" && span["name"].as_str().unwrap().starts_with("INSERT ");
    assert_eq!(all.iter().find(insert).unwrap()["parent_span_id"], root["span_id"]);
    assert_eq!(below(&all, root, "library", "client", "SET")["parent_span_id"], root["span_id"]);
    let ids = find(&server, "{ name = \"GET /books/{id}\" }");
    let line = format!("book 7 trace_id={}", ids[0]);
    run.wait_for("the line with the trace's id", |printed| (printed == line).then_some(()));

    assert_eq!(get(port, "/broken", &[]).0, 500);
    let all = spans(&server, "{ name = \"GET /broken\" }", 1);
    let broken = one(&all, "library", "server", "GET /broken");
    let stack = broken["events"][0]["attributes"]["exception.stacktrace"].as_str().unwrap();
    assert!(
        broken["status"] == "error" && stack.contains("no such book") && stack.contains("Library.broken"),
        "{broken}"
    );
}
