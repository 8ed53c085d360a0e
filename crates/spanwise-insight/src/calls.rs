//! What each span does: its normalised operation, and whom it calls.

use spanwise_model::{KeyValue, SpanKind, TraceSpan, Value};

use crate::names::{Joint, Name, Names, Question, Rule, hash_of};
use crate::normalize::{self, split_scheme, until};
use crate::view::{Attributes, Meaning, Scalar};

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

/// The same with texts by number, and what rules over several calls compare.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CallView {
    pub category: Category,
    pub operation: Name,
    pub system: Option<Name>,
    pub peer: Option<Name>,
    pub is_outgoing: bool,
    /// Hash of what was asked for, as it was written: the URL, the statement, the name.
    pub target: u64,
    /// It failed on the server, by its HTTP status.
    pub is_server_failure: bool,
    /// What a client asked wrongly, or what just is not there, is no failure of the one asked.
    pub is_expected_failure: bool,
    /// One page of a list, as far as the call alone tells.
    pub is_page: bool,
}

pub fn attribute<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a Value> {
    attributes.iter().find(|attribute| attribute.key == key).map(|attribute| &attribute.value)
}

fn is_expected_failure(status: Option<i64>, span: &impl Attributes) -> bool {
    if let Some(code) = status {
        return matches!(code, 400..=407 | 409..=428);
    }
    // gRPC: cancelled, invalid argument, not found, already exists.
    match span.number(Meaning::RpcStatus) {
        Some(code) => matches!(code, 1 | 3 | 5 | 6),
        None => span
            .text(Meaning::RpcStatus)
            .is_some_and(|code| ["CANCELLED", "INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS"].contains(&code)),
    }
}

/// What a call asked for, as it was written: the URL, the statement, the name.
fn target(span: &impl Attributes) -> &str {
    let meanings = [Meaning::UrlFull, Meaning::DbQueryText, Meaning::UrlPath];
    meanings.into_iter().find_map(|meaning| span.text(meaning)).unwrap_or(span.name())
}

/// Host of a URL: `http://user:pass@host:80/path` is `host`.
fn host_of(url: &str) -> Option<&str> {
    let authority = until(split_scheme(url)?.1, |byte| matches!(byte, b'/' | b'?' | b'#'));
    let host = authority.rsplit('@').next()?;
    let host = match host.strip_prefix('[') {
        Some(v6) => until(v6, |byte| byte == b']'),
        None => until(host, |byte| byte == b':'),
    };
    (!host.is_empty()).then_some(host)
}

/// An address, or this very machine: no name that tells one peer from another.
pub fn is_nameless(host: &str) -> bool {
    // Most names are told from addresses by their first letters.
    let may_be = host.bytes().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':'));
    (may_be && host.parse::<std::net::IpAddr>().is_ok()) || host == "localhost"
}

pub(crate) fn is_nameless_name(names: &mut Names, host: Name) -> bool {
    names.asked(host, Question::Nameless, is_nameless)
}

/// Reads a span's attributes by the semantic conventions, old and new, and its name where there are none.
pub fn call(span: &TraceSpan) -> Call {
    let mut names = Names::default();
    let call = call_view(span, &mut names);
    let text = |name: Name| names.text(name).to_owned();
    Call {
        category: call.category,
        operation: text(call.operation),
        system: call.system.map(text),
        peer: call.peer.map(text),
        is_outgoing: call.is_outgoing,
    }
}

/// The same, and what else rules ask of a span's attributes.
pub(crate) fn call_view(span: &impl Attributes, names: &mut Names) -> CallView {
    let get = |meaning: Meaning| span.text(meaning);
    let kind = span.kind();
    let target = target(span);
    let target_hash = hash_of(target);
    let normal = |names: &mut Names, rule: Rule, text: &str| match std::ptr::eq(text, target) {
        true => names.normal_hashed(rule, text, target_hash),
        false => names.normal(rule, text),
    };
    let is_outgoing = matches!(kind, SpanKind::Client | SpanKind::Producer);
    let mut call = CallView { is_outgoing, target: target_hash, ..CallView::default() };
    let host = get(Meaning::Peer);
    if let Some(system) = get(Meaning::DbSystem) {
        call.category = Category::Database;
        call.system = Some(names.number(system));
        call.is_outgoing |= kind != SpanKind::Server;
        // A number is an index within a server, an address differs from replica to replica.
        let namespace = get(Meaning::DbNamespace).map(|name| names.number(name));
        let namespace = namespace.filter(|name| !names.asked(*name, Question::AllDigits, is_all_digits));
        call.peer = match (get(Meaning::PeerService), namespace) {
            (Some(service), _) => Some(names.number(service)),
            (None, Some(namespace)) => Some(namespace),
            (None, None) => host.map(|host| names.number(host)).filter(|host| !is_nameless_name(names, *host)),
        };
        call.operation = database_operation(span, system, names, &normal);
    } else if get(Meaning::RpcSystem).is_some() || get(Meaning::RpcService).is_some() {
        call.category = Category::Rpc;
        call.peer = host.map(|host| names.number(host));
        call.operation = match (get(Meaning::RpcService), get(Meaning::RpcMethod)) {
            (Some(service), Some(method)) => {
                let (service, method) = (names.number(service), names.number(method));
                names.joined(Joint::Slash, service, method)
            }
            (None, Some(method)) => names.number(method),
            _ => normal(names, Rule::Name, span.name()),
        };
    } else if let Some(method) = get(Meaning::HttpMethod) {
        call.category = Category::Http;
        let url = get(Meaning::UrlFull);
        let peer = get(Meaning::PeerService).or_else(|| url.and_then(host_of)).or(host);
        call.peer = peer.map(|peer| names.number(peer));
        let path = get(Meaning::HttpRoute).or_else(|| get(Meaning::UrlPath).or(url));
        call.operation = match path {
            Some(path) => {
                let (method, path) = (names.number(method), normal(names, Rule::Path, path));
                names.joined(Joint::Space, method, path)
            }
            None => normal(names, Rule::Name, span.name()),
        };
    } else if let Some(system) = get(Meaning::MessagingSystem) {
        call.category = Category::Messaging;
        call.system = Some(names.number(system));
        let destination = get(Meaning::MessagingDestination);
        call.peer = destination.or(host).map(|peer| names.number(peer));
        call.operation = match (get(Meaning::MessagingOperation), destination) {
            (Some(operation), Some(destination)) => {
                let (operation, destination) = (names.number(operation), names.normal(Rule::Name, destination));
                names.joined(Joint::Space, operation, destination)
            }
            _ => normal(names, Rule::Name, span.name()),
        };
    } else {
        call.peer = host.map(|host| names.number(host));
        by_name(span, &mut call, names);
    }
    let status = span.number(Meaning::HttpStatus);
    call.is_server_failure = status.is_some_and(|code| code >= 500);
    call.is_expected_failure = is_expected_failure(status, span);
    call.is_page = is_page(span, &call, target, names);
    call
}

fn is_all_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

fn database_operation<A: Attributes>(
    span: &A,
    system: &str,
    names: &mut Names,
    normal: &dyn Fn(&mut Names, Rule, &str) -> Name,
) -> Name {
    let target = span.text(Meaning::DbCollection);
    let of_target = |names: &mut Names, operation: &str, target: &str| {
        let (operation, target) = (names.number(operation), names.normal(Rule::Name, target));
        names.joined(Joint::Space, operation, target)
    };
    match span.text(Meaning::DbQueryText) {
        Some(statement) if normalize::is_sql(statement) => {
            let has_double_quoted_text = normalize::has_double_quoted_text(system);
            normal(names, if has_double_quoted_text { Rule::SqlWithDoubleQuotes } else { Rule::Sql }, statement)
        }
        Some(statement) if statement.trim_start().starts_with(['{', '[']) => {
            let name = match (span.text(Meaning::DbOperation), target) {
                (Some(operation), Some(target)) => of_target(names, operation, target),
                _ => names.normal(Rule::Name, span.name()),
            };
            let document = normal(names, Rule::Document, statement);
            names.joined(Joint::Space, name, document)
        }
        Some(statement) => names.normal(Rule::Command, statement.lines().next().unwrap_or_default()),
        None => match (span.text(Meaning::DbOperation), target, span.text(Meaning::DbQuerySummary)) {
            (Some(operation), Some(target), _) => of_target(names, operation, target),
            (.., Some(summary)) => names.normal(Rule::Name, summary),
            _ => names.normal(Rule::Name, span.name()),
        },
    }
}

/// Names that say what a span is without an attribute: a statement, a method and a URL, a command of a store.
fn by_name(span: &impl Attributes, call: &mut CallView, names: &mut Names) {
    const METHODS: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
    const VERBS: [&str; 8] = ["SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "UPSERT", "REPLACE", "WITH"];
    const STORES: [(&str, &str); 5] = [
        ("redis", "redis"),
        ("mongo", "mongodb"),
        ("mongodb", "mongodb"),
        ("memcached", "memcached"),
        ("cassandra", "cassandra"),
    ];
    let name = span.name().trim();
    let kind = span.kind();
    let (first, rest) = name.split_once(char::is_whitespace).unwrap_or((name, ""));
    let rest = rest.trim_start();
    let is_serving = matches!(kind, SpanKind::Server | SpanKind::Consumer);
    // `HTTP GET /x` is `GET /x`.
    let (method, place) = match first {
        "HTTP" => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
        _ => (first, rest),
    };
    if METHODS.contains(&method) && (place.starts_with('/') || split_scheme(place).is_some()) {
        call.category = Category::Http;
        let (method, path) = (names.number(method), names.normal(Rule::Path, place));
        call.operation = names.joined(Joint::Space, method, path);
        call.is_outgoing |= !is_serving && split_scheme(place).is_some();
        call.peer = host_of(place).map(|host| names.number(host)).or(call.peer);
        return;
    }
    call.operation = names.normal(Rule::Name, name);
    if is_serving {
        return;
    }
    let store = STORES.iter().find(|(word, _)| first.eq_ignore_ascii_case(word) && !rest.is_empty());
    if let Some((word, system)) = store {
        call.category = Category::Database;
        call.system = Some(names.number(system));
        call.is_outgoing = true;
        let (word, command) = (names.number(word), names.normal(Rule::Command, rest));
        call.operation = names.joined(Joint::Space, word, command);
    } else if VERBS.contains(&first) && !rest.is_empty() {
        call.category = Category::Database;
        call.is_outgoing = true;
        call.operation = names.normal(Rule::Sql, name);
    } else if kind == SpanKind::Client && METHODS.contains(&first) && rest.contains(':') {
        // `GET user:42`
        call.category = Category::Database;
        call.operation = names.normal(Rule::Command, name);
    }
}

/// Walking a list page by page is how lists are read.
fn is_page(span: &impl Attributes, call: &CallView, target: &str, names: &mut Names) -> bool {
    match call.category {
        Category::Database => {
            names.asked(call.operation, Question::Pages, is_paged_query)
                || (names.asked(call.operation, Question::PagesRows, is_limited_query) && !is_one_row(target))
        }
        Category::Http => {
            let mut found = false;
            span.each(Meaning::UrlWithQuery, &mut |value| {
                found |= matches!(value, Scalar::Str(url) if has_page_parameter(url));
                !found
            });
            // A name may be all there is.
            found || (span.name().contains('?') && has_page_parameter(span.name()))
        }
        Category::Rpc => names.asked(call.operation, Question::PagesCalls, |operation| {
            let name = operation.to_ascii_lowercase();
            name.ends_with("nextpage") || name.ends_with("getmore") || name.ends_with("fetchnext")
        }),
        _ => false,
    }
}

fn has_page_parameter(url: &str) -> bool {
    const PARAMETERS: [&str; 16] = [
        "page",
        "page_number",
        "pagenumber",
        "offset",
        "cursor",
        "page_token",
        "pagetoken",
        "nexttoken",
        "after",
        "before",
        "start",
        "skip",
        "from",
        "marker",
        "continue",
        "since_id",
    ];
    let mark = url.bytes().rposition(|byte| byte == b'?');
    let query = mark.map_or(url, |mark| url.get(mark + 1..).unwrap_or_default());
    // Most URLs have none at all.
    if query.len() > 11 && !query.bytes().any(|byte| matches!(byte, b'=' | b'&')) {
        return false;
    }
    query.split('&').any(|pair| {
        let key = pair.split_once('=').map_or(pair, |(key, _)| key);
        key.len() <= 11 && PARAMETERS.iter().any(|parameter| parameter.eq_ignore_ascii_case(key))
    })
}

/// A page of a list by offset or by a cursor.
fn is_paged_query(operation: &str) -> bool {
    let upper = operation.to_ascii_uppercase();
    let first = upper.split_whitespace().next().unwrap_or_default();
    if upper.contains(" OFFSET ") || ["GETMORE", "SCAN", "HSCAN", "SSCAN", "ZSCAN", "FETCH"].contains(&first) {
        return true;
    }
    is_document(&upper) && (upper.contains("SCAN ") || upper.contains("GETMORE"))
}

fn is_document(upper: &str) -> bool {
    let first = upper.split_whitespace().next().unwrap_or_default();
    first == "REDIS" || first == "MONGO" || upper.starts_with('{')
}

/// A page of a list from a key onwards in that key's order.
fn is_limited_query(operation: &str) -> bool {
    let upper = operation.to_ascii_uppercase();
    let from_a_key = upper.contains(" > ?") || upper.contains(" < ?");
    let limited = upper.contains(" LIMIT ?")
        || upper.contains(" TOP ?")
        || upper.contains(" FETCH FIRST ")
        || upper.contains(" FETCH NEXT ");
    !is_document(&upper) && from_a_key && limited && upper.contains(" ORDER BY ")
}

/// One row is no page: the latest price before a date, for each of many.
fn is_one_row(statement: &str) -> bool {
    let statement = statement.to_ascii_uppercase();
    statement.trim_end_matches([';', ' ']).ends_with("LIMIT 1")
        || statement.contains(" TOP 1 ")
        || statement.contains("FETCH FIRST 1 ROW")
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
