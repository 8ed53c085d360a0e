//! Names and attributes, as instrumentations of different ages write them.

use std::sync::Arc;

use spanwise_model::{KeyValue, Resource, Scope, Span, Value};

use super::program::{Convention, Operation, Service, Statement, Store};

pub fn resource(service: &Service, pod: u64) -> (Arc<Resource>, Arc<Scope>) {
    let attributes = vec![
        KeyValue::new("service.name", service.name.as_str()),
        KeyValue::new("host.name", format!("{}-{pod}", service.name)),
        KeyValue::new("k8s.pod.name", format!("{}-7d9f-{pod}", service.name)),
        KeyValue::new("service.version", "1.4.2"),
        KeyValue::new("telemetry.sdk.language", "java"),
    ];
    let scope = Scope { name: "sim".to_owned(), version: "1".to_owned(), ..Scope::default() };
    (Arc::new(Resource { attributes, ..Resource::default() }), Arc::new(scope))
}

fn int(key: &str, value: i64) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Value::Int(value) }
}

fn path(route: &str, id: u64) -> String {
    route.replace("{id}", &id.to_string())
}

/// `service.Method` of a route: `/items/{id}` is `GetItems`.
fn rpc_method(operation: &Operation) -> String {
    let words = operation.route.split('/').filter(|part| !part.is_empty() && !part.starts_with('{'));
    let mut name = match operation.method {
        "GET" => "Get".to_owned(),
        _ => "Do".to_owned(),
    };
    for word in words {
        let mut letters = word.chars();
        name.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        name.extend(letters.filter(|letter| letter.is_ascii_alphanumeric()));
    }
    name
}

pub fn server(service: &Service, operation: &Operation, id: u64, failed: bool, span: &mut Span) {
    let status = if failed { 500 } else { 200 };
    let full = path(&operation.route, id);
    let shown = if service.has_raw_names { &full } else { &operation.route };
    span.attributes.retain(|attribute| !attribute.key.starts_with("http.") && !attribute.key.starts_with("rpc."));
    if service.uses_rpc {
        let (name, method) = (format!("shop.{}", service.name), rpc_method(operation));
        span.name = format!("{name}/{method}");
        match service.convention {
            Convention::Old => span.attributes.extend([
                KeyValue::new("rpc.system", "grpc"),
                KeyValue::new("rpc.service", name),
                KeyValue::new("rpc.method", method),
                int("rpc.grpc.status_code", if failed { 13 } else { 0 }),
            ]),
            Convention::New => span.attributes.extend([
                KeyValue::new("rpc.system.name", "grpc"),
                KeyValue::new("rpc.method", format!("{name}/{method}")),
                KeyValue::new("rpc.response.status_code", if failed { "INTERNAL" } else { "OK" }),
            ]),
            _ => {}
        }
        return;
    }
    span.name = format!("{} {shown}", operation.method);
    match service.convention {
        Convention::Old => {
            span.attributes.extend([
                KeyValue::new("http.method", operation.method),
                KeyValue::new("http.target", full.as_str()),
                int("http.status_code", status),
            ]);
            if !service.has_raw_names {
                span.attributes.push(KeyValue::new("http.route", operation.route.as_str()));
            }
        }
        Convention::New => {
            span.attributes.extend([
                KeyValue::new("http.request.method", operation.method),
                KeyValue::new("url.path", full.as_str()),
                int("http.response.status_code", status),
            ]);
            if !service.has_raw_names {
                span.attributes.push(KeyValue::new("http.route", operation.route.as_str()));
            }
        }
        _ => {}
    }
}

pub fn client(caller: &Service, callee: &Service, operation: &Operation, id: u64, failed: bool, span: &mut Span) {
    let full = path(&operation.route, id);
    if callee.uses_rpc {
        let (name, method) = (format!("shop.{}", callee.name), rpc_method(operation));
        span.name = format!("{name}/{method}");
        match caller.convention {
            Convention::Old => span.attributes.extend([
                KeyValue::new("rpc.system", "grpc"),
                KeyValue::new("rpc.service", name),
                KeyValue::new("rpc.method", method),
                KeyValue::new("net.peer.name", callee.name.as_str()),
            ]),
            Convention::New => span.attributes.extend([
                KeyValue::new("rpc.system.name", "grpc"),
                KeyValue::new("rpc.method", format!("{name}/{method}")),
                KeyValue::new("server.address", callee.name.as_str()),
                int("server.port", 50051),
            ]),
            _ => {}
        }
        return;
    }
    http_client(caller, &callee.name, operation.method, &full, if failed { 500 } else { 200 }, span);
}

fn http_client(caller: &Service, host: &str, method: &str, path: &str, status: i64, span: &mut Span) {
    let url = format!("http://{host}:8080{path}");
    match caller.convention {
        Convention::Old => {
            span.name = format!("HTTP {method}");
            span.attributes.extend([
                KeyValue::new("http.method", method),
                KeyValue::new("http.url", url),
                int("http.status_code", status),
                KeyValue::new("net.peer.name", host),
            ]);
        }
        Convention::New => {
            span.name = method.to_owned();
            span.attributes.extend([
                KeyValue::new("http.request.method", method),
                KeyValue::new("url.full", url),
                int("http.response.status_code", status),
                KeyValue::new("server.address", host),
            ]);
        }
        _ => span.name = format!("{method} {url}"),
    }
}

pub fn host(caller: &Service, host: &str, route: &str, id: u64, failed: bool, is_expected: bool, span: &mut Span) {
    let status = match (failed, is_expected) {
        (false, _) => 200,
        (true, true) => 404,
        (true, false) => 503,
    };
    http_client(caller, host, "GET", &path(route, id), status, span);
}

pub fn queue(service: &Service, topic: &str, operation: &str, span: &mut Span) {
    span.name = format!("{operation} {topic}");
    match service.convention {
        Convention::Old => span.attributes.extend([
            KeyValue::new("messaging.system", "kafka"),
            KeyValue::new("messaging.destination", topic),
            KeyValue::new("messaging.operation", if operation == "send" { "publish" } else { operation }),
        ]),
        Convention::New => span.attributes.extend([
            KeyValue::new("messaging.system", "kafka"),
            KeyValue::new("messaging.destination.name", topic),
            KeyValue::new("messaging.operation.name", operation),
        ]),
        _ => {}
    }
}

fn system(store: Store, convention: Convention) -> &'static str {
    match (store, convention) {
        (Store::Postgres, _) => "postgresql",
        (Store::MySql, _) => "mysql",
        (Store::MsSql, Convention::New) => "microsoft.sql_server",
        (Store::MsSql, _) => "mssql",
        (Store::Oracle, Convention::New) => "oracle.db",
        (Store::Oracle, _) => "oracle",
        (Store::Sqlite, _) => "sqlite",
        (Store::Redis, _) => "redis",
        (Store::Mongo, _) => "mongodb",
    }
}

/// The statement in its dialect, with its value or a placeholder.
fn sql(store: Store, statement: Statement, table: &str, id: u64, literal: bool) -> String {
    let quoted = match store {
        Store::Postgres | Store::Oracle => format!("\"{table}\""),
        Store::MySql => format!("`{table}`"),
        Store::MsSql => format!("[dbo].[{table}]"),
        _ => table.to_owned(),
    };
    let value = |number: usize| match store {
        _ if literal && number == 2 => format!("'name {id}''s'"),
        _ if literal => format!("{}", id + number as u64),
        Store::Postgres => format!("${number}"),
        Store::MsSql => format!("@p{number}"),
        Store::Oracle => format!(":{number}"),
        _ => "?".to_owned(),
    };
    match statement {
        Statement::ById => format!("SELECT t.id, t.name FROM {quoted} t WHERE t.id = {}", value(1)),
        Statement::List => format!("SELECT id, name, price FROM {quoted} WHERE owner = {} ORDER BY id", value(1)),
        Statement::Insert => format!("INSERT INTO {quoted} (id, name) VALUES ({}, {})", value(1), value(2)),
        Statement::Page if store == Store::MsSql || store == Store::Oracle => {
            format!("SELECT * FROM {quoted} ORDER BY id OFFSET {} ROWS FETCH NEXT {} ROWS ONLY", value(1), value(3))
        }
        Statement::Page => format!("SELECT * FROM {quoted} ORDER BY id LIMIT {} OFFSET {}", value(3), value(1)),
        Statement::Keyset if store == Store::MsSql => {
            format!("SELECT TOP 100 * FROM {quoted} WHERE id > {} ORDER BY id", value(1))
        }
        Statement::Keyset if store == Store::Oracle => {
            format!("SELECT * FROM {quoted} WHERE id > {} ORDER BY id FETCH FIRST 100 ROWS ONLY", value(1))
        }
        Statement::Keyset => format!("SELECT * FROM {quoted} WHERE id > {} ORDER BY id LIMIT 100", value(1)),
        Statement::Connect => "SELECT 1".to_owned(),
    }
}

pub fn store(caller: &Service, store: Store, statement: Statement, table: &str, id: u64, span: &mut Span) {
    let database = format!("{}_db", caller.name);
    let verb = match statement {
        Statement::Insert => "INSERT",
        _ => "SELECT",
    };
    let text = match store {
        Store::Redis if statement == Statement::Insert => format!("SET {table}:{id} ?"),
        Store::Redis => format!("GET {table}:{id}"),
        Store::Mongo => {
            format!("{{\"find\": \"{table}\", \"filter\": {{\"_id\": {id}}}, \"lsid\": {{\"id\": \"x{id}\"}}}}")
        }
        _ => sql(store, statement, table, id, caller.has_literals),
    };
    if statement == Statement::Connect {
        span.name = match caller.convention {
            Convention::Old => "pg-pool.connect".to_owned(),
            _ => "connect".to_owned(),
        };
        if matches!(caller.convention, Convention::Old | Convention::New) {
            span.attributes.push(KeyValue::new(
                if caller.convention == Convention::New { "db.system.name" } else { "db.system" },
                system(store, caller.convention),
            ));
        }
        return;
    }
    span.name = match store {
        Store::Redis => text.split(' ').next().unwrap_or_default().to_owned(),
        Store::Mongo => format!("{table}.find"),
        _ => format!("{verb} {table}"),
    };
    let operation = match store {
        Store::Mongo => "find",
        Store::Redis => "GET",
        _ => verb,
    };
    match caller.convention {
        Convention::Old => {
            span.attributes.extend([
                KeyValue::new("db.system", system(store, caller.convention)),
                KeyValue::new("db.statement", text),
                KeyValue::new("net.peer.name", format!("{}-db", caller.name)),
            ]);
            if store == Store::Mongo {
                span.attributes.push(KeyValue::new("db.mongodb.collection", table));
                span.attributes.push(KeyValue::new("db.operation", operation));
            }
            if store == Store::Redis {
                span.attributes.push(int("db.redis.database_index", 0));
            } else {
                span.attributes.push(KeyValue::new("db.name", database));
            }
        }
        Convention::New => {
            span.attributes.extend([
                KeyValue::new("db.system.name", system(store, caller.convention)),
                KeyValue::new("db.query.text", text),
                KeyValue::new("db.operation.name", operation),
                KeyValue::new("db.collection.name", table),
                KeyValue::new("server.address", format!("{}-db", caller.name)),
                KeyValue::new("db.namespace", if store == Store::Redis { "0".to_owned() } else { database }),
            ]);
        }
        // As people name spans by hand: the statement, or what it is about.
        _ => {
            span.name = match store {
                Store::Redis => format!("redis {text}"),
                Store::Mongo => format!("mongo find {table} {id}"),
                _ => text,
            }
        }
    }
}
