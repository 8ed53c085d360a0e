//! What each span does: its normalised operation, and whom it calls.

use spanwise_model::{KeyValue, SpanKind, TraceSpan, Value, semconv};

use crate::normalize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Category {
    Database,
    Http,
    Rpc,
    Messaging,
    /// Work of the program itself.
    #[default]
    Internal,
}

/// One span, as far as analyses over many traces need it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Call {
    pub category: Category,
    /// Normalised: `GET /cart/{id}`, `SELECT * FROM items WHERE id = ?`.
    pub operation: String,
    /// `postgresql`, `redis`, `kafka`, ...: only for databases, caches and brokers.
    pub system: Option<String>,
    /// Whom a client span names as its peer: a service's or host's name, for a database its name where there is one.
    pub peer: Option<String>,
    /// A client, a producer, or a span with a database's attributes.
    pub is_outgoing: bool,
}

pub fn attribute<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a Value> {
    attributes.iter().find(|attribute| attribute.key == key).map(|attribute| &attribute.value)
}

fn text<'a>(attributes: &'a [KeyValue], keys: &[&str]) -> Option<&'a str> {
    keys.iter().find_map(|key| attribute(attributes, key)?.as_str()).filter(|text| !text.is_empty())
}

/// HTTP status code, of the old or the new convention.
pub fn http_status(attributes: &[KeyValue]) -> Option<i64> {
    number(attributes, semconv::HTTP_STATUS)
}

fn number(attributes: &[KeyValue], keys: &[&str]) -> Option<i64> {
    match keys.iter().find_map(|key| attribute(attributes, key))? {
        Value::Int(code) => Some(*code),
        Value::Str(code) => code.parse().ok(),
        _ => None,
    }
}

/// What a client asked wrongly, or what just is not there, is no failure of the one asked.
pub fn is_expected_failure(attributes: &[KeyValue]) -> bool {
    if let Some(code) = http_status(attributes) {
        return matches!(code, 400..=407 | 409..=428);
    }
    // gRPC: cancelled, invalid argument, not found, already exists.
    match number(attributes, semconv::RPC_STATUS) {
        Some(code) => matches!(code, 1 | 3 | 5 | 6),
        None => text(attributes, semconv::RPC_STATUS)
            .is_some_and(|code| ["CANCELLED", "INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS"].contains(&code)),
    }
}

/// What a call asked for, as it was written: the URL, the statement, the name.
pub fn target(span: &TraceSpan) -> &str {
    let attributes = &span.span.attributes;
    let keys = [semconv::URL_FULL, semconv::DB_QUERY_TEXT, semconv::URL_PATH];
    keys.into_iter().find_map(|keys| text(attributes, keys)).unwrap_or(&span.span.name)
}

/// Host of a URL: `http://user:pass@host:80/path` is `host`.
fn host_of(url: &str) -> Option<String> {
    let authority = url.split_once("://")?.1.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?;
    let host = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next()?,
        None => host.split(':').next()?,
    };
    (!host.is_empty()).then(|| host.to_owned())
}

/// An address, or this very machine: no name that tells one peer from another.
pub fn is_nameless(host: &str) -> bool {
    host.parse::<std::net::IpAddr>().is_ok() || host == "localhost"
}

/// Reads a span's attributes by the semantic conventions, old and new, and its name where there are none.
pub fn call(span: &TraceSpan) -> Call {
    let (attributes, kind) = (&span.span.attributes, span.span.kind);
    let get = |keys: &[&str]| text(attributes, keys);
    let is_outgoing = matches!(kind, SpanKind::Client | SpanKind::Producer);
    let mut call = Call { is_outgoing, ..Call::default() };
    let host = get(semconv::PEER);
    if let Some(system) = get(semconv::DB_SYSTEM) {
        call.category = Category::Database;
        call.system = Some(system.to_owned());
        call.is_outgoing |= kind != SpanKind::Server;
        // A number is an index within a server, an address differs from replica to replica.
        let namespace = get(semconv::DB_NAMESPACE).filter(|name| !name.bytes().all(|byte| byte.is_ascii_digit()));
        let named = host.filter(|host| !is_nameless(host));
        call.peer = get(semconv::PEER_SERVICE).or(namespace).or(named).map(str::to_owned);
        call.operation = database_operation(span, call.system.as_deref().unwrap_or_default());
    } else if get(semconv::RPC_SYSTEM).is_some() || get(semconv::RPC_SERVICE).is_some() {
        call.category = Category::Rpc;
        call.peer = host.map(str::to_owned);
        call.operation = match (get(semconv::RPC_SERVICE), get(semconv::RPC_METHOD)) {
            (Some(service), Some(method)) => format!("{service}/{method}"),
            (None, Some(method)) => method.to_owned(),
            _ => normalize::name(&span.span.name),
        };
    } else if let Some(method) = get(semconv::HTTP_METHOD) {
        call.category = Category::Http;
        let url = get(semconv::URL_FULL);
        let of_url = || url.and_then(host_of);
        call.peer = get(semconv::PEER_SERVICE).map(str::to_owned).or_else(of_url).or_else(|| host.map(str::to_owned));
        let path = get(semconv::HTTP_ROUTE)
            .map(normalize::path)
            .or_else(|| get(semconv::URL_PATH).or(url).map(normalize::path));
        call.operation = match path {
            Some(path) => format!("{method} {path}"),
            None => normalize::name(&span.span.name),
        };
    } else if let Some(system) = get(semconv::MESSAGING_SYSTEM) {
        call.category = Category::Messaging;
        call.system = Some(system.to_owned());
        let destination = get(semconv::MESSAGING_DESTINATION);
        call.peer = destination.or(host).map(str::to_owned);
        call.operation = match (get(semconv::MESSAGING_OPERATION), destination) {
            (Some(operation), Some(destination)) => format!("{operation} {}", normalize::name(destination)),
            _ => normalize::name(&span.span.name),
        };
    } else {
        call.peer = host.map(str::to_owned);
        by_name(span, &mut call);
    }
    call
}

fn database_operation(span: &TraceSpan, system: &str) -> String {
    let get = |keys: &[&str]| text(&span.span.attributes, keys);
    let target = get(semconv::DB_COLLECTION);
    match get(semconv::DB_QUERY_TEXT) {
        Some(statement) if normalize::is_sql(statement) => match normalize::has_double_quoted_text(system) {
            true => normalize::sql_with_double_quotes(statement),
            false => normalize::sql(statement),
        },
        Some(statement) if statement.trim_start().starts_with(['{', '[']) => {
            let name = match (get(semconv::DB_OPERATION), target) {
                (Some(operation), Some(target)) => format!("{operation} {}", normalize::name(target)),
                _ => normalize::name(&span.span.name),
            };
            format!("{name} {}", normalize::document(statement))
        }
        Some(statement) => normalize::command(statement.lines().next().unwrap_or_default()),
        None => match (get(semconv::DB_OPERATION), target, get(semconv::DB_QUERY_SUMMARY)) {
            (Some(operation), Some(target), _) => format!("{operation} {}", normalize::name(target)),
            (.., Some(summary)) => normalize::name(summary),
            _ => normalize::name(&span.span.name),
        },
    }
}

/// Names that say what a span is without an attribute: a statement, a method and a URL, a command of a store.
fn by_name(span: &TraceSpan, call: &mut Call) {
    const METHODS: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
    const VERBS: [&str; 8] = ["SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "UPSERT", "REPLACE", "WITH"];
    const STORES: [(&str, &str); 5] = [
        ("redis", "redis"),
        ("mongo", "mongodb"),
        ("mongodb", "mongodb"),
        ("memcached", "memcached"),
        ("cassandra", "cassandra"),
    ];
    let name = span.span.name.trim();
    let kind = span.span.kind;
    let (first, rest) = name.split_once(char::is_whitespace).unwrap_or((name, ""));
    let rest = rest.trim_start();
    let is_serving = matches!(kind, SpanKind::Server | SpanKind::Consumer);
    // `HTTP GET /x` is `GET /x`.
    let (method, place) = match first {
        "HTTP" => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
        _ => (first, rest),
    };
    if METHODS.contains(&method) && (place.starts_with('/') || place.contains("://")) {
        call.category = Category::Http;
        call.operation = format!("{method} {}", normalize::path(place));
        call.is_outgoing |= !is_serving && place.contains("://");
        call.peer = host_of(place).or(call.peer.take());
        return;
    }
    call.operation = normalize::name(name);
    if is_serving {
        return;
    }
    let store = STORES.iter().find(|(word, _)| first.eq_ignore_ascii_case(word) && !rest.is_empty());
    if let Some((word, system)) = store {
        call.category = Category::Database;
        call.system = Some((*system).to_owned());
        call.is_outgoing = true;
        call.operation = format!("{word} {}", normalize::command(rest));
    } else if VERBS.contains(&first) && !rest.is_empty() {
        call.category = Category::Database;
        call.is_outgoing = true;
        call.operation = normalize::sql(name);
    } else if kind == SpanKind::Client && METHODS.contains(&first) && rest.contains(':') {
        // `GET user:42`
        call.category = Category::Database;
        call.operation = normalize::command(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spanwise_model::Span;
    use std::sync::Arc;

    fn read(kind: SpanKind, name: &str, pairs: &[(&str, &str)]) -> Call {
        let attributes = pairs.iter().map(|(key, value)| KeyValue::new(*key, *value)).collect();
        let span = Span { kind, name: name.to_owned(), attributes, ..Span::default() };
        call(&TraceSpan { resource: Arc::default(), scope: Arc::default(), span })
    }

    #[test]
    fn operations_are_named_by_either_convention() {
        use SpanKind::{Client, Internal, Server};
        for (call, operation, peer) in [
            (read(Server, "GET", &[("http.method", "GET"), ("http.route", "/cart/<user>")]), "GET /cart/{user}", None),
            (
                read(Client, "GET", &[("http.request.method", "GET"), ("url.full", "http://u:p@auth:80/verify/7?x=1")]),
                "GET /verify/{id}",
                Some("auth"),
            ),
            (
                read(Client, "q", &[("db.system", "sqlite"), ("db.statement", "SELECT 1"), ("db.name", "shop")]),
                "SELECT ?",
                Some("shop"),
            ),
            (read(Client, "GET", &[("db.system", "redis"), ("db.statement", "GET cart:5")]), "GET cart:{id}", None),
            (
                read(Client, "x", &[("rpc.system", "grpc"), ("rpc.service", "shop.Cart"), ("rpc.method", "Get")]),
                "shop.Cart/Get",
                None,
            ),
            (read(Internal, "work 7", &[]), "work {id}", None),
        ] {
            assert_eq!((call.operation.as_str(), call.peer.as_deref()), (operation, peer));
        }
        assert!(read(Internal, "q", &[("db.system", "sqlite")]).is_outgoing);
    }

    #[test]
    fn names_alone_say_what_they_can() {
        use SpanKind::{Client, Internal, Server};
        for (kind, name, category, operation, peer, is_outgoing) in [
            (Client, "SELECT * FROM t WHERE id = 7", Category::Database, "SELECT * FROM t WHERE id = ?", None, true),
            (Internal, "SELECT items", Category::Database, "SELECT items", None, true),
            (Internal, "GET http://cart:8080/items/7", Category::Http, "GET /items/{id}", Some("cart"), true),
            (Server, "GET /items/7", Category::Http, "GET /items/{id}", None, false),
            (Client, "HTTP GET /items/7", Category::Http, "GET /items/{id}", None, true),
            (Internal, "DELETE /items/7", Category::Http, "DELETE /items/{id}", None, false),
            (Internal, "redis GET user:42", Category::Database, "redis GET user:{id}", None, true),
            (Client, "GET user:42", Category::Database, "GET user:{id}", None, true),
            (Internal, "Update cart 7", Category::Internal, "Update cart {id}", None, false),
            (Client, "shop.Cart/Get", Category::Internal, "shop.Cart/Get", None, true),
        ] {
            let call = read(kind, name, &[]);
            let found = (call.category, call.operation.as_str(), call.peer.as_deref(), call.is_outgoing);
            assert_eq!(found, (category, operation, peer, is_outgoing), "{name}");
        }
        let mongo = read(
            Client,
            "carts.find",
            &[
                ("db.system", "mongodb"),
                ("db.statement", r#"{"find": "carts", "filter": {"_id": 7}}"#),
                ("db.operation", "find"),
                ("db.mongodb.collection", "carts"),
            ],
        );
        assert_eq!(mongo.operation, r#"find carts {"find": "carts", "filter": {"_id": ?}}"#);
        let redis = read(Client, "GET", &[("db.system", "redis"), ("db.name", "0"), ("net.peer.name", "10.0.0.7")]);
        assert_eq!(redis.peer, None);
    }
}
