//! What each span does: its normalised operation, and whom it calls.

use spanwise_model::{KeyValue, SpanKind, TraceSpan, Value};

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
    let found =
        attribute(attributes, "http.response.status_code").or_else(|| attribute(attributes, "http.status_code"));
    match found? {
        Value::Int(code) => Some(*code),
        Value::Str(code) => code.parse().ok(),
        _ => None,
    }
}

/// Reads a span's attributes by the semantic conventions, old and new.
pub fn call(span: &TraceSpan) -> Call {
    let (attributes, kind) = (&span.span.attributes, span.span.kind);
    let get = |keys: &[&str]| text(attributes, keys);
    let has = |key: &str| attributes.iter().any(|attribute| attribute.key == key);
    let mut call = Call { is_outgoing: matches!(kind, SpanKind::Client | SpanKind::Producer), ..Call::default() };
    let host = get(&["peer.service", "server.address", "net.peer.name", "http.host", "server.socket.domain"]);
    if let Some(system) = get(&["db.system.name", "db.system"]) {
        call.category = Category::Database;
        call.system = Some(system.to_owned());
        call.is_outgoing |= kind != SpanKind::Server;
        call.peer = get(&["peer.service", "db.namespace", "db.name"]).or(host).map(str::to_owned);
        call.operation = match get(&["db.query.text", "db.statement"]) {
            Some(statement) if normalize::is_sql(statement) => normalize::sql(statement),
            Some(statement) => normalize::name(statement.lines().next().unwrap_or_default()),
            None => {
                let operation = get(&["db.operation.name", "db.operation"]);
                let target = get(&["db.collection.name", "db.sql.table", "db.mongodb.collection"]);
                match (operation, target) {
                    (Some(operation), Some(target)) => format!("{operation} {}", normalize::name(target)),
                    _ => normalize::name(&span.span.name),
                }
            }
        };
    } else if has("rpc.system") || has("rpc.system.name") || has("rpc.service") {
        call.category = Category::Rpc;
        call.peer = host.map(str::to_owned);
        call.operation = match (get(&["rpc.service"]), get(&["rpc.method"])) {
            (Some(service), Some(method)) => format!("{service}/{method}"),
            (None, Some(method)) => method.to_owned(),
            _ => normalize::name(&span.span.name),
        };
    } else if let Some(method) = get(&["http.request.method", "http.method"]) {
        call.category = Category::Http;
        let url = get(&["url.full", "http.url"]);
        let of_url = url.and_then(|url| {
            let authority = url.split_once("://")?.1.split(['/', '?', '#']).next()?;
            Some(authority.rsplit('@').next()?.split(':').next()?.to_owned())
        });
        call.peer = get(&["peer.service"]).map(str::to_owned).or(of_url).or_else(|| host.map(str::to_owned));
        let path = get(&["http.route", "url.template"])
            .map(normalize::path)
            .or_else(|| get(&["url.path", "http.target"]).or(url).map(normalize::path));
        call.operation = match path {
            Some(path) => format!("{method} {path}"),
            None => normalize::name(&span.span.name),
        };
    } else if let Some(system) = get(&["messaging.system"]) {
        call.category = Category::Messaging;
        call.system = Some(system.to_owned());
        let destination = get(&["messaging.destination.name", "messaging.destination"]);
        call.peer = destination.or(host).map(str::to_owned);
        let operation = get(&["messaging.operation.name", "messaging.operation", "messaging.operation.type"]);
        call.operation = match (operation, destination) {
            (Some(operation), Some(destination)) => format!("{operation} {}", normalize::name(destination)),
            _ => normalize::name(&span.span.name),
        };
    } else {
        call.peer = host.map(str::to_owned);
        call.operation = normalize::name(&span.span.name);
    }
    call
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
}
